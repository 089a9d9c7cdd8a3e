/* Counts what a process does to the files below one folder, and what processes it begins, and kills it at one of these boundaries.
 *
 * Preloaded, and dormant until `crash_arm`, or until it finds in its environment that it is a program that one that was armed has become. Only that
 * process is counted: what it forks is another program's. Each boundary is written to a log before it is passed, and each change that was made after it, whole, so that `power.py` can tell what a disk would hold of it
 * had the power failed. One lock around each change: the log's order is the disk's.
 *
 * Record: kind (4), inode (8), offset (8), lengths of name, other name, data (4 each), then these three.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { POINT = 1, WRITE, CUT, SYNC, RENAME, UNLINK, MKDIR, RMDIR, CREATE, LINK };
enum how { KILL = 0, HALF = 1, FAIL = 2 };  /* before it; in the middle, if it is a write; let a sync say that the disk has failed */

static char folder[PATH_MAX];
static size_t folder_len;
static int log_fd = -1, how;
static long at, passed;
static pid_t armed;
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

#define REAL(result, name, ...) \
    static result (*real_##name)(__VA_ARGS__); \
    if (!real_##name) real_##name = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void record(uint32_t kind, uint64_t inode, uint64_t offset, const char *name, const char *other, const void *data, size_t size) {
    uint32_t lengths[3] = {(uint32_t)strlen(name), (uint32_t)strlen(other), (uint32_t)size};
    struct iovec parts[] = {{&kind, 4}, {&inode, 8}, {&offset, 8}, {lengths, 12},
                            {(void *)name, lengths[0]}, {(void *)other, lengths[1]}, {(void *)data, size}};
    if (writev(log_fd, parts, 7) < 0) abort();
}

#define ARMED "CRASH_ARMED"  /* who (0: whoever reads it), log, boundary, how, boundaries passed, folder */

void crash_arm(const char *below, int log, long number, int mode, long before) {
    folder_len = strlen(below);
    memcpy(folder, below, folder_len + 1);
    log_fd = log, at = number, how = mode, passed = before, armed = getpid();
}

__attribute__((constructor)) static void arm_again(void) {
    const char *said = getenv(ARMED);
    int who, log, mode, read = 0;
    long number, before;
    if (said && sscanf(said, "%d %d %ld %d %ld %n", &who, &log, &number, &mode, &before, &read) == 5 && read && (!who || who == getpid()))
        crash_arm(said + read, log, number, mode, before);
    unsetenv(ARMED);
}

static int watching(void) { return armed && armed == getpid(); }

static int below(const char *path) {
    return strncmp(path, folder, folder_len) == 0 && (path[folder_len] == '/' || !path[folder_len]);
}

/* Where a descriptor leads, and whether that is ours to watch. */
static int ours(int fd, char *path, struct stat *about) {
    char link[64];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, path, PATH_MAX - 1);
    if (got > 0) path[got] = 0;
    int yes = got > 0 && below(path) && fstat(fd, about) == 0 && (S_ISREG(about->st_mode) || S_ISDIR(about->st_mode));
    errno = saved;
    return yes;
}

/* The whole path of `path`, as opened from the folder `fd`. */
static const char *whole(int fd, const char *path, char *room) {
    if (path[0] == '/') return path;
    char link[64];
    snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, room, PATH_MAX - 1);
    if (got < 0) return path;
    snprintf(room + got, PATH_MAX - got, "/%s", path);
    return room;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* One boundary. Returns how it is to be passed: 0 as it is, HALF or FAIL otherwise. */
static int point(const char *what, const char *path) {
    passed++;
    record(POINT, 0, (uint64_t)passed, what, path, "", 0);
    if (passed != at) return 0;
    if ((how == FAIL && !strcmp(what, "fsync")) || (how == HALF && !strcmp(what, "write"))) return how;
    die();
    return 0;
}

static ssize_t written(int fd, const void *data, size_t size, off_t offset) {
    REAL(ssize_t, write, int, const void *, size_t);
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
    char path[PATH_MAX];
    struct stat about;
    if (!watching() || !ours(fd, path, &about)) return offset < 0 ? real_write(fd, data, size) : real_pwrite64(fd, data, size, offset);
    pthread_mutex_lock(&lock);
    int broken = point("write", path);
    size_t part = broken == HALF ? size / 2 : size;
    ssize_t done = offset < 0 ? real_write(fd, data, part) : real_pwrite64(fd, data, part, offset);
    if (done > 0) record(WRITE, about.st_ino, (uint64_t)(offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset), path, "", data, (size_t)done);
    if (broken == HALF) die();
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, -1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset); }

static int synced(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    struct stat about;
    if (!watching() || !ours(fd, path, &about)) return real(fd);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (point("fsync", path) == FAIL) {
        errno = EIO;
    } else {
        result = real(fd);
        if (!result) record(SYNC, about.st_ino, S_ISDIR(about.st_mode), path, "", "", 0);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { REAL(int, fsync, int); return synced(fd, real_fsync); }
int fdatasync(int fd) { REAL(int, fdatasync, int); return synced(fd, real_fdatasync); }

static int cut(int fd, off_t size) {
    REAL(int, ftruncate64, int, off_t);
    char path[PATH_MAX];
    struct stat about;
    if (!watching() || !ours(fd, path, &about)) return real_ftruncate64(fd, size);
    pthread_mutex_lock(&lock);
    point("truncate", path);
    int result = real_ftruncate64(fd, size);
    if (!result) record(CUT, about.st_ino, (uint64_t)size, path, "", "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off_t size) { return cut(fd, size); }

static int named(const char *what, uint32_t kind, int at_fd, const char *path, int flag, int (*real)(int, const char *, int)) {
    char room[PATH_MAX];
    const char *full = path;
    if (!watching() || !below(full = whole(at_fd, path, room))) return real(at_fd, path, flag);
    pthread_mutex_lock(&lock);
    point(what, full);
    int result = real(at_fd, path, flag);
    if (!result) record(kind, 0, 0, full, "", "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}

static int real_unlink_at(int fd, const char *path, int flag) { REAL(int, unlinkat, int, const char *, int); return real_unlinkat(fd, path, flag); }
static int real_mkdir_at(int fd, const char *path, int mode) { REAL(int, mkdirat, int, const char *, mode_t); return real_mkdirat(fd, path, (mode_t)mode); }

int unlink(const char *path) { return named("unlink", UNLINK, AT_FDCWD, path, 0, real_unlink_at); }
int rmdir(const char *path) { return named("rmdir", RMDIR, AT_FDCWD, path, AT_REMOVEDIR, real_unlink_at); }
int unlinkat(int fd, const char *path, int flag) {
    return flag & AT_REMOVEDIR ? named("rmdir", RMDIR, fd, path, flag, real_unlink_at) : named("unlink", UNLINK, fd, path, flag, real_unlink_at);
}
int mkdirat(int fd, const char *path, mode_t mode) { return named("mkdir", MKDIR, fd, path, (int)mode, real_mkdir_at); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    char rooms[2][PATH_MAX];
    const char *whole_from = whole(from_fd, from, rooms[0]), *whole_to = whole(to_fd, to, rooms[1]);
    if (!watching() || !below(whole_to)) return real_renameat(from_fd, from, to_fd, to);
    pthread_mutex_lock(&lock);
    point("rename", whole_to);
    int result = real_renameat(from_fd, from, to_fd, to);
    if (!result) record(RENAME, 0, 0, whole_from, whole_to, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    char rooms[2][PATH_MAX];
    const char *whole_from = whole(from_fd, from, rooms[0]), *whole_to = whole(to_fd, to, rooms[1]);
    if (!watching() || !below(whole_to)) return real_linkat(from_fd, from, to_fd, to, flags);
    pthread_mutex_lock(&lock);
    point("link", whole_to);
    int result = real_linkat(from_fd, from, to_fd, to, flags);
    if (!result) record(LINK, 0, 0, whole_from, whole_to, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

static int opened(int at_fd, const char *path, int flags, mode_t mode) {
    REAL(int, openat64, int, const char *, int, ...);
    char room[PATH_MAX];
    const char *full = path;
    if (!(flags & (O_CREAT | O_TRUNC)) || !watching() || !below(full = whole(at_fd, path, room))) return real_openat64(at_fd, path, flags, mode);
    struct stat about;
    pthread_mutex_lock(&lock);
    int fresh = fstatat(at_fd, path, &about, 0) != 0, emptied = !fresh && (flags & O_TRUNC) && about.st_size > 0;
    errno = 0;
    if (fresh || emptied) point(fresh ? "create" : "truncate", full);
    int fd = real_openat64(at_fd, path, flags, mode);
    if (fd >= 0 && fresh && !fstat(fd, &about)) record(CREATE, about.st_ino, 0, full, "", "", 0);
    if (fd >= 0 && emptied) record(CUT, about.st_ino, 0, full, "", "", 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name, fd, ...) \
    int name(__VA_ARGS__, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return opened(fd, path, flags, mode); \
    }
OPEN(open, AT_FDCWD, const char *path)
OPEN(open64, AT_FDCWD, const char *path)
OPEN(openat, at_fd, int at_fd, const char *path)
OPEN(openat64, at_fd, int at_fd, const char *path)

static int allotted(int fd, off_t offset, off_t size) {
    REAL(int, posix_fallocate64, int, off_t, off_t);
    char path[PATH_MAX];
    struct stat about;
    if (!watching() || !ours(fd, path, &about)) return real_posix_fallocate64(fd, offset, size);
    pthread_mutex_lock(&lock);
    point("allocate", path);
    int result = real_posix_fallocate64(fd, offset, size);
    if (!result && offset + size > about.st_size) record(CUT, about.st_ino, (uint64_t)(offset + size), path, "", "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int posix_fallocate(int fd, off_t offset, off_t size) { return allotted(fd, offset, size); }
int posix_fallocate64(int fd, off_t offset, off_t size) { return allotted(fd, offset, size); }

static void spawning(void) {
    if (!watching()) return;
    pthread_mutex_lock(&lock);
    point("spawn", "");
    pthread_mutex_unlock(&lock);
}

pid_t fork(void) {
    REAL(pid_t, fork, void);
    spawning();
    return real_fork();
}

/* The child of a vfork would return into our frame. Of the two that do not, this is the one that runs no handlers, as a vfork does not. */
pid_t vfork(void) {
    spawning();
    return _Fork();
}

/* The program that this process becomes goes on counting. */
int execv(const char *path, char *const words[]) {
    REAL(int, execv, const char *, char *const []);
    if (!watching()) return real_execv(path, words);
    char said[PATH_MAX + 100];
    pthread_mutex_lock(&lock);
    point("become", "");
    snprintf(said, sizeof said, "%d %d %ld %d %ld %s", getpid(), log_fd, at, how, passed, folder);
    int flags = fcntl(log_fd, F_GETFD);
    if (fcntl(log_fd, F_SETFD, 0) || setenv(ARMED, said, 1)) abort();
    real_execv(path, words);
    int saved = errno;
    fcntl(log_fd, F_SETFD, flags);
    unsetenv(ARMED);
    errno = saved;
    pthread_mutex_unlock(&lock);
    return -1;
}
