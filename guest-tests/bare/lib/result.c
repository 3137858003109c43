/* Results as KTAP lines on the console, and the end of the run through the debug-exit port. */
#include "result.h"
#include "clock.h"
#include "console.h"
#include "cpu.h"

#define DEBUG_EXIT_PORT 0xf4
#define MOST_FAILURES 0x7f
#define NOTABLE_US 20000

static const char *current;
static unsigned number;
static unsigned failures;
static uint64_t begun;
static enum { PASSED, FAILED, SKIPPED } verdict;
static char reason[256];

static void settle(void) {
	static const char *const words[] = {"ok", "not ok", "ok"};
	const char *mark = verdict == PASSED ? "" : verdict == SKIPPED ? " # SKIP " : " # ";
	uint64_t took_us = clock_ns(read_tsc() - begun) / 1000;
	print("%s %u - %s%s%s\n", words[verdict], number, current, mark, verdict == PASSED ? "" : reason);
	/* Every character is an exit, half a millisecond in an emulated host: only what is worth knowing. */
	if (took_us >= NOTABLE_US) print("# took %lu us\n", took_us);
	if (verdict == FAILED) failures++;
	current = NULL;
}

void run_tests(const struct test *tests, size_t count) {
	print("KTAP version 1\n1..%u\n", (unsigned)count);
	for (size_t i = 0; i < count; i++) {
		current = tests[i].name;
		number = (unsigned)i + 1;
		verdict = PASSED;
		begun = read_tsc();
		tests[i].run();
		settle();
	}
	exit_payload(failures < MOST_FAILURES ? failures : MOST_FAILURES);
}

bool check_that(bool holds, const char *format, ...) {
	if (holds || verdict == FAILED) return holds;
	verdict = FAILED;
	va_list args;
	va_start(args, format);
	format_text(reason, sizeof reason, format, args);
	va_end(args);
	return false;
}

void skip(const char *why) {
	if (verdict == FAILED) return;
	verdict = SKIPPED;
	size_t length = 0;
	while (why[length] && length < sizeof reason - 1) reason[length] = why[length], length++;
	reason[length] = 0;
}

void metric(const char *name, uint64_t value, const char *unit) {
	print("# metric %s %lu %s\n", name, (uint64_t)value, unit);
}

void distribution(const char *name, uint32_t *values, size_t count, const char *unit) {
	if (count == 0) return;
	clock_percentiles(values, count);
	print("# distribution %s %s %u", name, unit, (unsigned)count);
	for (size_t percent = 0; percent <= 100; percent++) print(" %u", values[(count - 1) * percent / 100]);
	print("\n");
}

void bail_out(const char *format, ...) {
	char text[256];
	va_list args;
	va_start(args, format);
	format_text(text, sizeof text, format, args);
	va_end(args);
	interrupts_off();
	if (current) print("not ok %u - %s # %s\n", number, current, text);
	print("Bail out! %s\n", text);
	exit_payload(EXIT_BAILED_OUT);
}

void exit_payload(uint32_t value) {
	out32(DEBUG_EXIT_PORT, value);
	for (;;) __asm__ volatile("cli; hlt");
}
