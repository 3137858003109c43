/*
 * How fast a memory BAR is, by memory type, for devices whose BAR is plain memory (a frame buffer, shared memory). It is
 * overwritten. device=N, bar=N (default: the first prefetchable one), loops=N
 */
#include "../lib/payload.h"

/* Enough to be measured, and no larger than any such BAR. */
#define PIECE (64u * 1024)

static struct bar bar;
static uint64_t mappings[3];
static uint32_t times[1024];

static void write_all(uint64_t to, uint64_t value) {
	for (unsigned at = 0; at < PIECE; at += 8) mmio_write64(to + at, value + at);
	/* Drains the write-combining buffers; uncached writes are over by themselves. */
	memory_barrier();
}

static bool holds(uint64_t from, uint64_t value) {
	for (unsigned at = 0; at < PIECE; at += 8) {
		uint64_t got = mmio_read64(from + at);
		if (!check_that(got == value + at, "offset 0x%x: 0x%lx, expected 0x%lx", at, got, value + at)) return false;
	}
	return true;
}

static void types_agree(void) {
	write_all(mappings[MEMORY_UNCACHED], 0x0123456789abcdef);
	if (!holds(mappings[MEMORY_WRITE_COMBINING], 0x0123456789abcdef)) return;
	write_all(mappings[MEMORY_WRITE_COMBINING], 0xfedcba9876543210);
	holds(mappings[MEMORY_UNCACHED], 0xfedcba9876543210);
}

/* How long a piece took, and what the median makes of a second. */
static void report(const char *name, const char *rate, unsigned count) {
	distribution(name, times, count, "ns");
	uint32_t median = times[count / 2];
	metric(rate, (uint64_t)PIECE / 1024 * 1000000000 / (median ? median : 1), "KiB/s");
}

static void measure_writes(const char *name, const char *rate, enum memory_type type) {
	unsigned loops = (unsigned)arg_number("loops", 20);
	if (loops > 1024) loops = 1024;
	for (unsigned i = 0; i < loops; i++) {
		uint64_t start = read_tsc();
		write_all(mappings[type], i);
		times[i] = (uint32_t)clock_ns(read_tsc() - start);
	}
	report(name, rate, loops);
	holds(mappings[type], loops - 1);
}

static void uncached_writes(void) { measure_writes("uc-write-64k", "uc-write", MEMORY_UNCACHED); }
static void combining_writes(void) { measure_writes("wc-write-64k", "wc-write", MEMORY_WRITE_COMBINING); }

static void uncached_reads(void) {
	unsigned loops = (unsigned)arg_number("loops", 20);
	if (loops > 1024) loops = 1024;
	for (unsigned i = 0; i < loops; i++) {
		uint64_t start = read_tsc();
		for (unsigned at = 0; at < PIECE; at += 8) mmio_read64(mappings[MEMORY_UNCACHED] + at);
		times[i] = (uint32_t)clock_ns(read_tsc() - start);
	}
	report("uc-read-64k", "uc-read", loops);
}

void payload_main(void) {
	struct pci_function device = pci_device_of_args();
	bool found = false;
	for (unsigned i = 0; i < 6 && !found; i++) {
		if (has_arg("bar") && arg_number("bar", 0) != i) continue;
		if (!pci_bar(device, i, &bar) || bar.is_port || bar.size < PIECE) continue;
		found = has_arg("bar") || bar.prefetchable;
	}
	if (!found) bail_out("no prefetchable BAR of 64 KiB");
	mappings[MEMORY_UNCACHED] = map_memory(bar.address, PIECE, MEMORY_UNCACHED);
	mappings[MEMORY_WRITE_COMBINING] = map_memory(bar.address, PIECE, MEMORY_WRITE_COMBINING);
	pci_command(device, PCI_COMMAND_MEMORY, 0);
	static const struct test tests[] = {
		{"what one memory type writes, the other reads", types_agree},
		{"uncached writes", uncached_writes},
		{"write-combining writes", combining_writes},
		{"uncached reads", uncached_reads},
	};
	RUN_TESTS(tests);
}
