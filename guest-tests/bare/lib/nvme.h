#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Queue 0 is the admin queue. */
#define NVME_QUEUES 3
#define NVME_QUEUE_ENTRIES 8
#define NVME_CLASS 0x010802u
#define NVME_NO_COMPLETION 0xffffu

enum { NVME_IDENTIFY = 0x06, NVME_READ = 0x02, NVME_GET_FEATURES = 0x0a };
/* CNS of NVME_IDENTIFY. */
#define NVME_IDENTIFY_CONTROLLER 1

struct nvme_command {
	uint8_t opcode, flags;
	uint16_t command_id;
	uint32_t namespace_id;
	uint64_t reserved, metadata;
	uint64_t data[2];
	uint32_t words[6];
};

/* Resets the controller and enables it with its admin queue, which uses vector 0. */
bool nvme_start(uint64_t bar_address);
/* Creates an I/O queue pair whose completions interrupt by `vector`. */
bool nvme_create_queue(unsigned queue, unsigned vector);
/* Rings the doorbell; the completion is to be taken later. */
void nvme_submit(unsigned queue, const struct nvme_command *command);
bool nvme_is_complete(unsigned queue);
/* Returns the status of the completion that is there, 0 for success, and gives its entry back. */
unsigned nvme_take(unsigned queue);
/* Submits, waits by polling, takes. NVME_NO_COMPLETION when nothing came. */
unsigned nvme_run(unsigned queue, const struct nvme_command *command);
