import com.lmax.disruptor.BusySpinWaitStrategy;
import com.lmax.disruptor.EventHandler;
import com.lmax.disruptor.RingBuffer;
import com.lmax.disruptor.BatchEventProcessor;

/**
 * The Disruptor, one producer and one consumer thread in one process, 64 bytes copied in and out, published 16 at a time.
 *
 * usage: DisruptorPeer COUNT; prints the seconds that COUNT frames took, once the code is warm
 */
public final class DisruptorPeer {
    private static final int SLOTS = 65536;
    private static final int BATCH = 16;
    private static final int WORDS = 8;

    private static final class Reader implements EventHandler<long[]> {
        private final long[] local = new long[WORDS];
        private long next;
        volatile long seen;
        volatile boolean wrong;

        @Override
        public void onEvent(long[] frame, long sequence, boolean last) {
            for (int i = 0; i < WORDS; i++) local[i] = frame[i];
            if (local[0] != next++) wrong = true;
            if (last) seen = next;
        }
    }

    private static double timed(RingBuffer<long[]> ring, Reader reader, long from, long count) {
        long[] local = new long[WORDS];
        long began = System.nanoTime();
        for (long n = from; n < from + count;) {
            long high = ring.next(BATCH);
            for (long at = high - BATCH + 1; at <= high; at++) {
                local[0] = n++;
                long[] frame = ring.get(at);
                for (int i = 0; i < WORDS; i++) frame[i] = local[i];
            }
            ring.publish(high - BATCH + 1, high);
        }
        while (reader.seen < from + count) Thread.onSpinWait();
        return (System.nanoTime() - began) / 1e9;
    }

    public static void main(String[] args) throws Exception {
        long count = Long.parseLong(args[0]) / BATCH * BATCH;
        RingBuffer<long[]> ring =
                RingBuffer.createSingleProducer(() -> new long[WORDS], SLOTS, new BusySpinWaitStrategy());
        Reader reader = new Reader();
        BatchEventProcessor<long[]> processor = new BatchEventProcessor<>(ring, ring.newBarrier(), reader);
        ring.addGatingSequences(processor.getSequence());
        Thread thread = new Thread(processor);
        thread.setDaemon(true);
        thread.start();
        timed(ring, reader, 0, count);
        double took = timed(ring, reader, count, count);
        if (reader.wrong) {
            System.err.println("wrong: a frame's number");
            System.exit(1);
        }
        System.out.printf(java.util.Locale.ROOT, "%.9f%n", took);
        processor.halt();
    }
}
