// Kafka Streams: three co-partitioned topics as one stream, so that nothing is repartitioned; ten-second windows of event
// time on a RocksDB window store with a changelog; one record per SKU and window when it is over.
//
// What mattered: the store keeps ten minutes (with the default of a day a replay lost windows), max.task.idle.ms above 0
// (or topics of one task do not advance together), no cache (it brought nothing), large fetches and batches,
// and the check for windows that are over every 50 ms instead of every second of the wall clock.

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.WindowStore;

public class KafkaStreamsWindows {
    static final long BUCKET_MS = 10_000;
    static final Duration RETENTION = Duration.ofSeconds(610);
    static final String PREFIX = System.getenv("BENCH_PREFIX");
    static final List<String> TOPICS = List.of(PREFIX + "clicks", PREFIX + "carts", PREFIX + "orders");
    static final ObjectMapper MAPPER = new ObjectMapper();
    static final ObjectReader READ = MAPPER.readerFor(Event.class);
    static final ObjectWriter WRITE = MAPPER.writerFor(Window.class);

    @JsonIgnoreProperties(ignoreUnknown = true)
    public static final class Event {
        public long event_time_ms, price_cents, quantity;
        int kind;
    }

    public static final class Window {
        public String sku;
        public long bucket_start_ms, bucket_ms, clicks, carts, orders, units, revenue_cents, price_cents;
    }

    static final class Sums {
        final long[] kinds = new long[3];
        long units, revenueCents, priceSum;
    }

    static Event decode(String topic, byte[] value) {
        try {
            Event event = READ.readValue(value);
            event.kind = TOPICS.indexOf(topic);
            return event;
        } catch (IOException error) {
            throw new SerializationException(error);
        }
    }

    static byte[] encode(String topic, Window window) {
        try {
            return WRITE.writeValueAsBytes(window);
        } catch (IOException error) {
            throw new SerializationException(error);
        }
    }

    static byte[] pack(String topic, Sums sums) {
        if (sums == null) return null;
        ByteBuffer packed = ByteBuffer.allocate(48);
        for (long count : sums.kinds) packed.putLong(count);
        return packed.putLong(sums.units).putLong(sums.revenueCents).putLong(sums.priceSum).array();
    }

    static Sums unpack(String topic, byte[] bytes) {
        if (bytes == null) return null;
        ByteBuffer packed = ByteBuffer.wrap(bytes);
        Sums sums = new Sums();
        for (int kind = 0; kind < 3; kind++) sums.kinds[kind] = packed.getLong();
        sums.units = packed.getLong();
        sums.revenueCents = packed.getLong();
        sums.priceSum = packed.getLong();
        return sums;
    }

    static Sums add(Sums sums, Event event) {
        sums.kinds[event.kind]++;
        sums.priceSum += event.price_cents;
        if (event.kind == 2) {
            sums.units += event.quantity;
            sums.revenueCents += event.quantity * event.price_cents;
        }
        return sums;
    }

    static Window window(String sku, long startMs, Sums sums) {
        Window window = new Window();
        window.sku = sku;
        window.bucket_start_ms = startMs;
        window.bucket_ms = BUCKET_MS;
        window.clicks = sums.kinds[0];
        window.carts = sums.kinds[1];
        window.orders = sums.kinds[2];
        window.units = sums.units;
        window.revenue_cents = sums.revenueCents;
        long events = window.clicks + window.carts + window.orders;
        window.price_cents = (2 * sums.priceSum + events) / (2 * events);
        return window;
    }

    static <T> Serde<T> serde(Serializer<T> out, Deserializer<T> in) {
        return Serdes.serdeFrom(out, in);
    }

    static Properties settings(boolean exactlyOnce) {
        Properties set = new Properties();
        set.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getenv("BENCH_GROUP"));
        set.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BENCH_BOOTSTRAP"));
        set.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("BENCH_STATE"));
        set.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        set.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, exactlyOnce ? 1_000 : 5_000);
        set.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
            exactlyOnce ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        set.put(StreamsConfig.MAX_TASK_IDLE_MS_CONFIG, 500);
        set.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
        set.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        set.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 5_000);
        set.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        set.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        set.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MIN_BYTES_CONFIG), 100_000);
        set.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 100);
        set.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        set.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 262_144);
        set.put("__emit.interval.ms.kstreams.windowed.aggregation__", 50L);
        return set;
    }

    public static void main(String[] arguments) {
        boolean exactlyOnce = List.of(arguments).contains("exactly-once");
        Serde<String> text = Serdes.String();
        Serde<Event> events = serde((topic, event) -> { throw new UnsupportedOperationException(); }, KafkaStreamsWindows::decode);
        Serde<Window> windows = serde(KafkaStreamsWindows::encode, (topic, bytes) -> { throw new UnsupportedOperationException(); });
        Serde<Sums> sums = serde(KafkaStreamsWindows::pack, KafkaStreamsWindows::unpack);
        Materialized<String, Sums, WindowStore<Bytes, byte[]>> store =
            Materialized.<String, Sums, WindowStore<Bytes, byte[]>>as("windows")
                .withKeySerde(text).withValueSerde(sums).withLoggingEnabled(Map.of()).withRetention(RETENTION)
                .withCachingDisabled();

        StreamsBuilder builder = new StreamsBuilder();
        builder
            .stream(TOPICS, Consumed.with(text, events)
                .withTimestampExtractor((record, time) -> ((Event) record.value()).event_time_ms))
            .groupByKey(Grouped.with(text, events))
            .windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofMillis(BUCKET_MS)))
            .emitStrategy(EmitStrategy.onWindowClose())
            .aggregate(Sums::new, (sku, event, all) -> add(all, event), store)
            .toStream()
            .map((key, all) -> KeyValue.pair(key.key(), window(key.key(), key.window().start(), all)))
            .to(System.getenv("BENCH_OUTPUT"), Produced.with(text, windows));

        Properties set = settings(exactlyOnce);
        KafkaStreams streams = new KafkaStreams(builder.build(set), set);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
    }
}
