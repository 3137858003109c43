/* Register access of QEMU's edu: widths, memory types, and how long an access takes. device=N, loops=N */
#include "../lib/edu.h"
#include "../lib/payload.h"

static uint64_t bar_address, registers, combining;
static uint64_t accesses;

static uint32_t read(uint64_t offset) {
	accesses++;
	return mmio_read32(registers + offset);
}

static void write(uint64_t offset, uint32_t value) {
	accesses++;
	mmio_write32(registers + offset, value);
}

static void dwords_pass(void) {
	CHECK_EQUAL(read(EDU_IDENTIFICATION) & 0xffff, 0x00ed, "identification");
	for (unsigned bit = 0; bit < 32; bit++) {
		write(EDU_LIVENESS, 1u << bit);
		CHECK_EQUAL(read(EDU_LIVENESS), ~(1u << bit), "complement");
	}
}

static void quadwords_pass_whole(void) {
	static const uint64_t values[] = {0x0123456789abcdef, 0xfedcba9876543210, 1ul << 63, 1};
	for (unsigned i = 0; i < 4; i++) {
		accesses += 3;
		mmio_write64(registers + EDU_DMA_SOURCE, values[i]);
		CHECK_EQUAL(mmio_read64(registers + EDU_DMA_SOURCE), values[i], "8 bytes");
		CHECK_EQUAL(mmio_read32(registers + EDU_DMA_SOURCE), (uint32_t)values[i], "lower 4 bytes of them");
	}
}

/* The device takes no access of 1 or 2 bytes: had one arrived as 4, the register would show it. */
static void narrow_accesses_stay_narrow(void) {
	write(EDU_LIVENESS, 0x55aa55aa);
	accesses += 4;
	mmio_write8(registers + EDU_LIVENESS, 0x11);
	mmio_write16(registers + EDU_LIVENESS, 0x2222);
	mmio_read8(registers + EDU_LIVENESS);
	mmio_read16(registers + EDU_LIVENESS);
	CHECK_EQUAL(read(EDU_LIVENESS), ~0x55aa55aau, "register after narrow writes");
}

static void order_is_kept(void) {
	for (unsigned i = 1; i <= 200; i++) {
		write(EDU_LIVENESS, i);
		write(EDU_LIVENESS, ~i);
		CHECK_EQUAL(read(EDU_LIVENESS), i, "the later write");
	}
}

static void memory_types_see_one_device(void) {
	accesses += 4;
	mmio_write32(combining + EDU_LIVENESS, 0x0badcafe);
	/* Drains the write-combining buffer. */
	memory_barrier();
	CHECK_EQUAL(mmio_read32(registers + EDU_LIVENESS), ~0x0badcafeu, "written combining, read uncached");
	mmio_write32(registers + EDU_LIVENESS, 0x600df00d);
	CHECK_EQUAL(mmio_read32(combining + EDU_LIVENESS), ~0x600df00du, "written uncached, read combining");
}

static void accesses_take_time(void) {
	unsigned loops = (unsigned)arg_number("loops", 500);
	static uint32_t times[4096];
	if (loops > 4096) loops = 4096;
	for (unsigned i = 0; i < loops; i++) {
		uint64_t start = read_tsc();
		read(EDU_LIVENESS);
		times[i] = (uint32_t)clock_ns(read_tsc() - start);
	}
	distribution("read-latency", times, loops, "ns");
	for (unsigned i = 0; i < loops; i++) {
		uint64_t start = read_tsc();
		write(EDU_LIVENESS, i);
		times[i] = (uint32_t)clock_ns(read_tsc() - start);
	}
	distribution("write-latency", times, loops, "ns");
	CHECK_EQUAL(read(EDU_LIVENESS), ~(loops - 1), "last value");
	/* Whoever runs this compares it with the exits that it counted. */
	metric("bar-accesses", accesses, "accesses");
}

void payload_main(void) {
	struct pci_function edu = pci_device_of_args();
	struct bar bar;
	if (pci_read32(edu, 0) != EDU_ID || !pci_bar(edu, 0, &bar)) bail_out("device %u is not an edu", edu.id >> 3);
	bar_address = bar.address;
	registers = map_memory(bar.address, bar.size, MEMORY_UNCACHED);
	combining = map_memory(bar.address, bar.size, MEMORY_WRITE_COMBINING);
	pci_command(edu, PCI_COMMAND_MEMORY, 0);
	static const struct test tests[] = {
		{"dwords pass, every bit", dwords_pass},
		{"quadwords pass whole", quadwords_pass_whole},
		{"narrow accesses stay narrow", narrow_accesses_stay_narrow},
		{"the order of writes is kept", order_is_kept},
		{"uncached and write-combining mappings reach one device", memory_types_see_one_device},
		{"accesses are measured", accesses_take_time},
	};
	RUN_TESTS(tests);
}
