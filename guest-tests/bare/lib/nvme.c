/* The least of an NVMe driver: queues of eight entries, one command at a time (NVM Express base specification 1.4). */
#include "nvme.h"
#include "clock.h"
#include "cpu.h"
#include "memory.h"
#include "mmio.h"
#include "paging.h"
#include "result.h"

enum {
	NVME_CAPABILITIES = 0x00,
	NVME_CONFIGURATION = 0x14,
	NVME_STATUS = 0x1c,
	NVME_ADMIN_ATTRIBUTES = 0x24,
	NVME_ADMIN_SUBMISSION = 0x28,
	NVME_ADMIN_COMPLETION = 0x30,
	NVME_DOORBELLS = 0x1000,
};
#define ENTRIES NVME_QUEUE_ENTRIES
#define READY_MS 10000
/* Enabled; submission entries of 2^6 bytes, completion entries of 2^4. */
#define ENABLE 0x00460001u
#define CREATE_SUBMISSION_QUEUE 0x01
#define CREATE_COMPLETION_QUEUE 0x05
#define PHYSICALLY_CONTIGUOUS 1u
#define INTERRUPTS_ENABLED 2u

struct completion {
	uint32_t result, reserved;
	uint16_t submission_head, submission_queue, command, status;
};

/* Every queue begins on a page of its own. */
static struct nvme_command submissions[NVME_QUEUES][4096 / sizeof(struct nvme_command)] __attribute__((aligned(4096)));
static volatile struct completion completions[NVME_QUEUES][4096 / sizeof(struct completion)]
	__attribute__((aligned(4096)));
static struct {
	unsigned tail, head;
	bool phase;
} state[NVME_QUEUES];
static uint64_t registers, stride;

static bool wait_ready(bool ready) {
	return WAIT_FOR((mmio_read32(registers + NVME_STATUS) & 1) == ready, READY_MS);
}

bool nvme_start(uint64_t bar_address) {
	registers = map_memory(bar_address, 0x4000, MEMORY_UNCACHED);
	stride = 4ul << ((mmio_read64(registers + NVME_CAPABILITIES) >> 32) & 15);
	mmio_write32(registers + NVME_CONFIGURATION, 0);
	if (!wait_ready(false)) return false;
	memset((void *)completions, 0, sizeof completions);
	for (unsigned queue = 0; queue < NVME_QUEUES; queue++) {
		state[queue].tail = state[queue].head = 0;
		state[queue].phase = true;
	}
	mmio_write32(registers + NVME_ADMIN_ATTRIBUTES, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	mmio_write64(registers + NVME_ADMIN_SUBMISSION, (uint64_t)submissions[0]);
	mmio_write64(registers + NVME_ADMIN_COMPLETION, (uint64_t)completions[0]);
	mmio_write32(registers + NVME_CONFIGURATION, ENABLE);
	return wait_ready(true);
}

void nvme_submit(unsigned queue, const struct nvme_command *command) {
	unsigned tail = state[queue].tail;
	submissions[queue][tail] = *command;
	submissions[queue][tail].command_id = (uint16_t)tail;
	state[queue].tail = (tail + 1) % ENTRIES;
	memory_barrier();
	mmio_write32(registers + NVME_DOORBELLS + 2 * queue * stride, state[queue].tail);
}

bool nvme_is_complete(unsigned queue) {
	return (completions[queue][state[queue].head].status & 1) == state[queue].phase;
}

unsigned nvme_take(unsigned queue) {
	unsigned status = completions[queue][state[queue].head].status >> 1;
	if (++state[queue].head == ENTRIES) state[queue].head = 0, state[queue].phase = !state[queue].phase;
	mmio_write32(registers + NVME_DOORBELLS + (2 * queue + 1) * stride, state[queue].head);
	return status;
}

unsigned nvme_run(unsigned queue, const struct nvme_command *command) {
	nvme_submit(queue, command);
	if (!WAIT_FOR(nvme_is_complete(queue), READY_MS)) return NVME_NO_COMPLETION;
	return nvme_take(queue);
}

bool nvme_create_queue(unsigned queue, unsigned vector) {
	struct nvme_command create = {
		.opcode = CREATE_COMPLETION_QUEUE,
		.data = {(uint64_t)completions[queue], 0},
		.words = {(ENTRIES - 1) << 16 | queue, vector << 16 | INTERRUPTS_ENABLED | PHYSICALLY_CONTIGUOUS},
	};
	if (nvme_run(0, &create) != 0) return false;
	create = (struct nvme_command){
		.opcode = CREATE_SUBMISSION_QUEUE,
		.data = {(uint64_t)submissions[queue], 0},
		.words = {(ENTRIES - 1) << 16 | queue, queue << 16 | PHYSICALLY_CONTIGUOUS},
	};
	return nvme_run(0, &create) == 0;
}
