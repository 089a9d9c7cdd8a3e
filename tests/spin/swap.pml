/* The swap of a 1+1 pair: two agents, a lossy link, four members, a merge, and what may befall them. docs/adr/0023.
 *
 * What the leader decides is not written here: decisions.h has the trees that tests/spin/decisions.py takes out of
 * halftrack_agent.swap, and which members a record wants, and which row the merge applies. Here is what surrounds them:
 * what is seen and how old it is, what is durable, what is carried out later than it was decided, and what must hold.
 *
 * Sequence numbers are abstracted to where things are, seen from the output: a member's ring (absent, far behind, close,
 * or begun beyond the output), and the fence (passed, at the next sequence, within the margin, further ahead).
 *
 * Parameters: SURGE 1|2, HOSTS 1|2, FAULTS how many may strike, CALM 1: from every state, the way to the end once faults are over.
 */

#define NONE 0      /* no ring, or nothing in it */
#define FAR 1       /* more than lag_frames behind */
#define NEAR 2
#define HOLE 3      /* it begins beyond the next sequence of the output */

#define OFF 0
#define UP 1
#define LEAVING 2   /* told to stop, not gone yet */
#define DEAD 3      /* killed; its agent starts it again */
#define FAILED 4    /* a green that ended by its own fault */

#define BLUE 0
#define GREEN 1
#define NO_ROW 0
#define BLUE_NOW 1
#define GREEN_NOW 2
#define GREEN_AT_FENCE 3

#define PASSED 0
#define AT 1
#define MARGIN 2
#define AHEAD 3

#define BA 0        /* members: blue and green, on the leader's seat a and on seat b */
#define BB 1
#define GA 2
#define GB 3

#include "decisions.h"

c_decl {
\#include "decisions.c"
}

byte phase = PENDING, leg = 0;                    /* the leader's record, durable before anything follows from it */
byte act = 0;                                     /* what the leader is about to write into the owner table */
bool leading = 1;                                 /* the leader's agent lives */

byte its_phase = NO_RECORD, its_leg = 0;          /* the record that the other host has journaled */
bool its_newest = 0;                              /* is it the leader's? */
bool following = 1;                               /* the other host's agent lives */

bool known = 0, known_agreed = 0, known_same = 1; /* its last word: come at all; for our newest record; for what it has now */
bool known_run = 0, known_failed = 0, known_blue = 0, known_stays = 0;
byte known_lag = 0;
bool heard = 0;                                   /* that word is fresh */

#if DELAYED
bool late_word = 0, late_newer = 0, late_newest = 0; /* a record that is still under way, whatever was said since */
byte late_phase = 0, late_leg = 0;
#endif

byte proc[4] = { UP, UP, OFF, OFF };
byte pos[4] = { NEAR, NEAR, NONE, NONE };
bool shadow0 = 0, shadow1 = 0;                    /* enough of green's outputs were compared */
bool link_up = 1, merge_up = 1;

byte own = BLUE;                                  /* the generation in force */
bool was_green = 0;                               /* has green ever been? */
byte row = NO_ROW;                                /* the proposed row */
bool own_ours = 0, row_ours = 0;                  /* is that row's epoch the record's? (asked only while ARMED) */
byte dist = AHEAD, row_dist = AHEAD;              /* from the output to the record's fence, and to the row's */

bool abort_ordered = 0;
byte faults = 0;                                  /* that have struck */
bool calm_over = 0;

/* ------------------------------------------------------------------------------------------------- what is so */

#define reached(m) (((m) & 1) == 0 || link_up)
#define counts(m)  (proc[m] == UP && pos[m] == NEAR && reached(m))
#define stays(m)   (proc[m] == UP || proc[m] == DEAD || proc[m] == FAILED)
#define ready(g)   (counts(2 * (g)) + counts(2 * (g) + 1))
#define wanted_a(m) c_expr { wants[now.leg][now.phase][m] }
#define wanted_b(m) c_expr { wants[now.its_leg][now.its_phase][m] }
/* what is wanted and starts: what failed on trial only once its release has been taken all the same */
#define trial_over(m) (((m) & 1 && HOSTS == 2) -> its_phase == DONE : phase == DONE)
#define startable(m) (proc[m] == OFF || proc[m] == DEAD || (proc[m] == FAILED && trial_over(m)))
/* has reconcile something to do about a member that is wanted, or not? */
#define restless(m, want) \
    ((want && startable(m)) || \
     (!want && proc[m] != LEAVING && (proc[m] != OFF || pos[m] != NONE)))
#define next_own   (row == BLUE_NOW -> BLUE : (row == GREEN_NOW -> GREEN : own)) /* a row without a fence takes effect at once */
#if HOSTS == 2 /* what a look has made the agent do is done before it looks again */
#define done_a (act == 0 && !restless(BA, wanted_a(BA)) && !restless(GA, wanted_a(GA)))
#else
#define done_a (act == 0 && !restless(BA, wanted_a(BA)) && !restless(GA, wanted_a(GA)) && \
                !restless(BB, wanted_a(BB)) && !restless(GB, wanted_a(GB)))
#endif
#define terminal   (phase == DONE || phase == UNDONE)
#define due        c_expr { is_due[now.row][now.row_dist] }
#define passing    (merge_up && !due && ready(own))

c_code {
static int running(int m) { return now.proc[m] == UP || now.proc[m] == LEAVING; }
static int head(int m) { return now.pos[m] == HOLE ? NEAR : now.pos[m]; }
static int lag(int m) { return running(m) ? head(m) : NONE; }

/* What a step has changed, in a counterexample that is played again. */
static void show(void) {
    static const char *const procs[] = {"off", "up", "leaving", "dead", "failed"}, *const heads[] = {"-", "far", "near", "hole"};
    static const char *const members[] = {"blue-a", "blue-b", "green-a", "green-b"};
    static State last;
#define SAY(field) if (last.field != now.field) printf("  " #field " %d -> %d", last.field, now.field)
    SAY(phase); SAY(leg); SAY(act); SAY(leading); SAY(its_phase); SAY(its_leg); SAY(its_newest); SAY(following);
    SAY(known); SAY(known_agreed); SAY(known_run); SAY(known_lag); SAY(known_failed); SAY(known_blue); SAY(known_stays); SAY(heard);
    SAY(shadow0); SAY(shadow1); SAY(link_up); SAY(merge_up); SAY(own); SAY(row); SAY(dist); SAY(row_dist);
    SAY(abort_ordered); SAY(faults);
    for (int m = 0; m < 4; m++) {
        if (last.proc[m] != now.proc[m]) printf("  %s %s -> %s", members[m], procs[last.proc[m]], procs[now.proc[m]]);
        if (last.pos[m] != now.pos[m]) printf("  %s's ring %s -> %s", members[m], heads[last.pos[m]], heads[now.pos[m]]);
    }
    printf("\n");
    last = now;
}

/* One look of the leader: what `Facts` holds. Of the other host it has only the last word. */
static void gather(void) {
    f_abort = now.abort_ordered;
    f_own = now.own; f_was_green = now.was_green; f_own_ours = now.own_ours;
    f_row = now.row; f_row_ours = now.row_ours; f_dist = now.dist;
    f_running0 = running(GA); f_failed0 = now.proc[GA] == FAILED; f_lag0 = lag(GA);
    f_green_head0 = head(GA); f_green_head1 = head(GB);
    f_blue_head0 = head(BA); f_blue_head1 = head(BB);
    f_shadow0 = now.shadow0; f_shadow1 = now.shadow1;
    f_blue_runs0 = running(BA); f_blue_stays0 = now.proc[BA] == UP;
#if HOSTS == 1
    f_known = f_knows = f_heard = f_agreed = 1;
    f_running1 = running(GB); f_failed1 = now.proc[GB] == FAILED; f_lag1 = lag(GB);
    f_blue_runs1 = running(BB); f_blue_stays1 = now.proc[BB] == UP;
#else
    f_known = f_knows = now.known; f_heard = now.heard; f_agreed = now.known_agreed;
    f_running1 = now.known_run; f_failed1 = now.known_failed; f_lag1 = now.known_lag;
    f_blue_runs1 = now.known_blue; f_blue_stays1 = now.known_stays;
#endif
    f_late_leg = 0; f_ripe_leg = 0; /* a deadline is one more reason to abort, and `abort_ordered` comes at any time */
}

static void decide_parts(int leg, int phase) {
    decide_f_back(leg, phase); f_back = r_part;
    decide_f_may(leg, phase); f_may = r_part;
}

/* Move the record, and decide what to write into the table: by one look, as seats.lead does. */
static void look(int ripe, int late) {
    gather();
    f_ripe_phase = ripe; f_late_phase = late;
    decide_parts(now.leg, now.phase);
    decide_moves(now.leg, now.phase);
    if (r_moved) {
        now.leg = r_leg; now.phase = r_phase;
        now.its_newest = now.known_agreed = 0;
#if DELAYED
        now.late_newest = 0;
#endif
        now.own_ours = now.row_ours = 0; /* a fence is set above every epoch; elsewhere nobody asks */
        now.dist = AHEAD;
        if (r_phase == UNDONE) {
            if (now.own != BLUE || now.row >= GREEN_NOW) r_bad = 2;
        }
        if (r_phase == DONE) {
            if (now.own != GREEN || now.row == BLUE_NOW) r_bad = 3;
        }
        if (r_phase == GONE) { /* whoever takes over when green dies was close behind, as far as anybody could see */
#if SURGE == 2
            if (head(GA) != NEAR || head(GB) != NEAR) r_bad = 4;
#else
            if (now.leg == 0 ? head(BB) != NEAR : head(GA) != NEAR || head(GB) != NEAR) r_bad = 4;
#endif
        }
        f_agreed = 0; f_own_ours = f_row_ours = 0; f_dist = AHEAD;
    }
    decide_parts(now.leg, now.phase);
    decide_writes(now.leg, now.phase);
    now.act = r_act;
}
}

/* -------------------------------------------------------------------------------------------------- the steps */

inline write_table() {
    if
    :: act == WITHDRAW -> row = NO_ROW; row_ours = 0; row_dist = AHEAD
    :: else ->
        assert(row == NO_ROW);                                    /* S1: never two cuts under way */
        row = act; row_dist = dist; row_ours = (phase == ARMED);
        if
        :: row == GREEN_AT_FENCE ->                               /* S1: a first cut is durable on both hosts */
            assert(phase == ARMED && (HOSTS == 1 || (its_newest && its_phase == ARMED)))
        :: row == GREEN_NOW ->
            assert(leg == 1 || phase == CUT || phase == DRAINING || phase == GONE || phase == DONE)
        :: else
        fi;
        if
        :: row != GREEN_AT_FENCE -> row_dist = AHEAD
        :: else
        fi
    fi;
    act = 0
}

inline apply() {
    assert(row != GREEN_AT_FENCE || row_dist == AT);              /* S1: exactly at the fence */
    own = (row == BLUE_NOW -> BLUE : GREEN);
    own_ours = row_ours; row = NO_ROW; row_ours = 0; row_dist = AHEAD;
    was_green = was_green || own == GREEN;
    /* S1: the output goes to who has it and stays; what a fault has just taken may be missing, what we let go may not */
    assert(faults > 1 || ready(own) || (faults == 1 && (stays(2 * own) || stays(2 * own + 1))))
}

#define let_go(m)  (m >= GA || (((m) & 1 && HOSTS == 2) -> (its_phase == GONE || its_phase == DONE) : \
                                (phase == GONE || phase == DONE || leg == 1)))

inline told_to_stop(m) {
    proc[m] = LEAVING;
    assert(let_go(m));                                            /* S1: blue shadows on until it is let go */
    assert(faults > 1 || ready(next_own) >= 1 || counts_before == 0);  /* S1: not the last one that counts */
    assert(faults > 0 || ready(BLUE) + ready(GREEN) >= 2)         /* S1: and one that can take over */
}

inline keep(m) {                                                  /* what reconcile does about a member */
    counts_before = ready(next_own);
    if
    :: want && startable(m) -> proc[m] = UP
    :: !want && proc[m] == UP -> told_to_stop(m)
    :: !want && (proc[m] == DEAD || proc[m] == FAILED) -> proc[m] = OFF
    :: !want && proc[m] == OFF && pos[m] != NONE ->
        pos[m] = NONE;
        if :: m == GA -> shadow0 = 0 :: m == GB -> shadow1 = 0 :: else fi
    :: else
    fi;
    counts_before = 0; want = 0
}

inline take() {                                                   /* the other host journals the leader's record */
    its_phase = phase; its_leg = leg; its_newest = 1; known_same = 0;
#if DELAYED
    late_word = 0; late_newer = 0; late_newest = 0; late_phase = 0; late_leg = 0;
#endif
}

inline answer() {
    heard = (its_newest || !known_same -> 1 : heard);
    known = 1; known_same = 1; known_agreed = its_newest;
    c_code {
        now.known_run = running(GB); now.known_failed = now.proc[GB] == FAILED; now.known_lag = lag(GB);
        now.known_blue = running(BB); now.known_stays = now.proc[BB] == UP;
    }
}

inline forget_word() {
    known = 0; known_agreed = 0; known_same = 0; known_run = 0; known_failed = 0; known_blue = 0; known_stays = 0;
    known_lag = 0; heard = 0
}

byte rounds = 0, counts_before = 0, want = 0;     /* within a step only */

/* S1, always: no member is the output's only one by our own doing, and the merge never has to declare a loss. */
inline check() {
    c_code { if (readtrail) show(); };
    assert(c_expr { r_bad != 1 });                                /* a record that has a row in the table */
    assert(c_expr { r_bad != 2 });                                /* S1: undone with blue in force */
    assert(c_expr { r_bad != 4 });                                /* S1: no blue is let go without a standby in sight */
    assert(c_expr { r_bad != 3 });                                /* S1: done with green in force */
    assert(faults > 0 || ready(own) >= 1);
    assert(faults > 0 || ready(BLUE) + ready(GREEN) >= 2);
    assert(faults > 1 || !((pos[2 * own] == HOLE && proc[2 * own] != OFF && (pos[2 * own + 1] == HOLE || proc[2 * own + 1] == OFF)) ||
                           (pos[2 * own + 1] == HOLE && proc[2 * own + 1] != OFF && proc[2 * own] == OFF)))
}

/* ------------------------------------------------------------------------------------------ who takes the steps */

active proctype Leader() {
end: do
    :: d_step { leading && done_a && !calm_over -> c_code { look(1, 0); }; check() }
    :: d_step { leading && done_a && !terminal && !calm_over -> c_code { look(0, 0); }; check() }
    :: d_step { leading && done_a && phase == ABORTING && (!link_up || !following) && !calm_over -> c_code { look(1, 1); }; check() }
    :: d_step { leading && act != 0 && !calm_over -> write_table(); check() }
    :: d_step { leading && act == 0 && restless(BA, wanted_a(BA)) && !calm_over -> want = wanted_a(BA); keep(BA); check() }
    :: d_step { leading && act == 0 && restless(GA, wanted_a(GA)) && !calm_over -> want = wanted_a(GA); keep(GA); check() }
#if HOSTS == 1
    :: d_step { leading && act == 0 && restless(BB, wanted_a(BB)) && !calm_over -> want = wanted_a(BB); keep(BB); check() }
    :: d_step { leading && act == 0 && restless(GB, wanted_a(GB)) && !calm_over -> want = wanted_a(GB); keep(GB); check() }
#endif
    :: d_step { leading && !merge_up && !calm_over -> merge_up = 1; check() }
    :: d_step { !leading && !calm_over -> leading = 1; check() }
    od
}

#if HOSTS == 2
active proctype Follower() {
end: do
    :: d_step { leading && following && link_up && act == 0 && !its_newest && !calm_over -> take(); check() }
#if DELAYED
    :: d_step { leading && link_up && act == 0 && !its_newest && !late_word && !calm_over ->
        late_word = 1; late_newer = 1; late_newest = 1; late_phase = phase; late_leg = leg }
    :: d_step { following && late_word && late_newer && !calm_over ->
        its_phase = late_phase; its_leg = late_leg; its_newest = late_newest; known_same = 0;
        late_word = 0; late_newer = 0; late_newest = 0; late_phase = 0; late_leg = 0 }
#endif
    :: d_step { following && leading && link_up && !calm_over -> answer(); check() }
    :: d_step { heard && (!following || !link_up) && !calm_over -> heard = 0; check() }
    :: d_step { following && restless(BB, wanted_b(BB)) && !calm_over -> want = wanted_b(BB); keep(BB); check() }
    :: d_step { following && restless(GB, wanted_b(GB)) && !calm_over -> want = wanted_b(GB); keep(GB); check() }
    :: d_step { !following && !calm_over -> following = 1; check() }
    :: d_step { !link_up && !calm_over -> link_up = 1; check() }
    od
}
#endif

#define begins(m)  (proc[m] == UP && pos[m] == NONE)
#define catches(m) (proc[m] == UP && pos[m] == FAR && reached(m))
#define falls(m)   (pos[m] == NEAR && !(proc[m] == UP && reached(m)))
#define member(m) \
    :: d_step { begins(m) && !calm_over -> pos[m] = FAR; check() } \
    :: d_step { begins(m) && (m >= GA) && !calm_over -> pos[m] = HOLE; check() } \
    :: d_step { catches(m) && !calm_over -> pos[m] = NEAR; check() } \
    :: d_step { falls(m) && !calm_over -> pos[m] = FAR; check() } \
    :: d_step { pos[m] == HOLE && passing && !calm_over -> pos[m] = NEAR; check() } \
    :: d_step { proc[m] == LEAVING && !calm_over -> proc[m] = OFF; check() }

active proctype Members() {
end: do
    member(BA)
    member(BB)
    member(GA)
    member(GB)
    od
}

#define fenced (phase == ARMED || row == GREEN_AT_FENCE)

inline onward() {                                                 /* one more frame has passed */
    if
    :: dist == AT && phase == ARMED -> dist = PASSED
    :: else
    fi;
    if
    :: row == GREEN_AT_FENCE && row_ours -> row_dist = dist
    :: row == GREEN_AT_FENCE && !row_ours && row_dist == AT -> row_dist = PASSED
    :: else
    fi
}

active proctype Merge() {
end: do
    :: d_step { merge_up && due && !calm_over -> apply(); check() }
    :: d_step { passing && fenced && !calm_over -> onward(); check() }
    :: d_step { passing && phase == ARMED && dist > AT && !calm_over ->
        dist = dist - 1; if :: row == GREEN_AT_FENCE && row_ours -> row_dist = dist :: else fi }
    :: d_step { passing && row == GREEN_AT_FENCE && !row_ours && row_dist > AT && !calm_over -> row_dist = row_dist - 1; check() }
    :: d_step { passing && own == BLUE && counts(GA) && !shadow0 && !calm_over -> shadow0 = 1; check() }
    :: d_step { passing && counts(GB) && !shadow1 && !calm_over -> shadow1 = 1; check() }
    od
}

#define may_strike (faults < FAULTS && !calm_over)
#define killing(m) :: d_step { may_strike && (proc[m] == UP || proc[m] == LEAVING) -> faults++; proc[m] = (proc[m] == UP -> DEAD : OFF); check() }

active proctype Fate() {
end: do
    killing(BA)
    killing(BB)
    killing(GA)
    killing(GB)
    :: d_step { may_strike && proc[GA] == UP && !terminal -> faults++; proc[GA] = FAILED; check() }
    :: d_step { may_strike && proc[GB] == UP && its_phase != DONE && !terminal -> faults++; proc[GB] = FAILED; check() }
    :: d_step { may_strike && merge_up -> faults++; merge_up = 0; shadow0 = 0; shadow1 = 0; check() }
    :: d_step { may_strike && leading -> faults++; leading = 0; act = 0; forget_word(); check() }
#if HOSTS == 2
    :: d_step { may_strike && following -> faults++; following = 0; check() }
    :: d_step { may_strike && heard -> faults++; heard = 0; check() } /* it hangs, or is deaf, for a while */
    :: d_step { may_strike && link_up -> faults++; link_up = 0; check() }
#endif
#if ABORTS
    :: d_step { !abort_ordered && !terminal && !calm_over -> abort_ordered = 1; check() }
#endif
    od
}

#if CALM
/* Nothing strikes any more, and everybody has its turn: the swap ends, within this many turns of each. */
#define TURNS 60

inline settle(m) {
    if
    :: proc[m] == LEAVING -> proc[m] = OFF
    :: begins(m) -> pos[m] = FAR
    :: catches(m) -> pos[m] = NEAR
    :: pos[m] == HOLE && ready(own) -> pos[m] = NEAR
    :: else
    fi
}

inline turn() {
    settle(BA); settle(BB); settle(GA); settle(GB);
    if :: due -> apply() :: else fi;
    if
    :: ready(own) && counts(GA) && own == BLUE -> shadow0 = 1
    :: else
    fi;
    if :: ready(own) && counts(GB) -> shadow1 = 1 :: else fi;
    if
    :: ready(own) && fenced && row_ours && !due -> /* a fence that moves twice as far each time is far enough in the end */
        if :: dist > PASSED -> dist = dist - 1; row_dist = dist :: else fi
    :: else
    fi;
    if :: act -> write_table() :: else fi;
#if HOSTS == 2
    if :: !its_newest -> take() :: else fi;
    want = wanted_b(BB); keep(BB); want = wanted_b(GB); keep(GB); answer();
#else
    want = wanted_a(BB); keep(BB); want = wanted_a(GB); keep(GB);
#endif
    want = wanted_a(BA); keep(BA); want = wanted_a(GA); keep(GA);
    c_code { look(1, 0); }
    check()
}

#define at_rest(m) (proc[m] != LEAVING && !restless(m, wanted_a(m)))
#define all_at_rest (at_rest(BA) && at_rest(BB) && at_rest(GA) && at_rest(GB))

active proctype Calm() {
end: d_step {
        !calm_over ->
        link_up = 1; leading = 1; following = 1; merge_up = 1; faults = 9;
        rounds = 0;
        do
        :: rounds < TURNS && !(terminal && act == 0 && row == NO_ROW && (HOSTS == 1 || its_newest) && all_at_rest && ready(own) == 2) -> turn(); rounds++
        :: else -> break
        od;
        assert(terminal && act == 0 && row == NO_ROW && all_at_rest);       /* R1: it ends */
        assert(own == (phase == DONE -> GREEN : BLUE) && ready(own) == 2);   /* with two of the release that it ended with */
        rounds = 0;
        calm_over = 1
    }
}
#endif
