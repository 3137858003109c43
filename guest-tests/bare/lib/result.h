/*
 * Tests of a payload. Each is a function; its first failed check is its reason, and it goes on after it unless it
 * returns. Output is KTAP: "1..N", "ok 1 - name", "not ok 2 - name # reason", "ok 3 - name # SKIP reason".
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct test {
	const char *name;
	void (*run)(void);
};

#define EXIT_BAILED_OUT 0x80

/* Runs all and ends the payload: debug-exit value 0, or the number of failed tests. */
void run_tests(const struct test *tests, size_t count) __attribute__((noreturn));
#define RUN_TESTS(tests) run_tests(tests, sizeof(tests) / sizeof(tests)[0])

/* Returns whether it holds; the text says what is wrong when it does not. */
bool check_that(bool holds, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Ends the test when it does not hold. */
#define REQUIRE(...)                        \
	do {                                    \
		if (!check_that(__VA_ARGS__)) return; \
	} while (0)
#define CHECK_EQUAL(got, want, what)                                                                   \
	do {                                                                                               \
		uint64_t got_ = (got), want_ = (want);                                                         \
		check_that(got_ == want_, "%s: 0x%lx, expected 0x%lx", (const char *)(what), got_, want_);     \
	} while (0)

/* Marks the current test as not applicable; return after it. */
void skip(const char *why);
/* A measured number: "# metric name value unit". */
void metric(const char *name, uint64_t value, const char *unit);
/*
 * Many of them: "# distribution name unit count" and 101 values, the least, every percentile, the most. Sorts in place.
 */
void distribution(const char *name, uint32_t *values, size_t count, const char *unit);
/* Ends everything at once, with a failure. */
void bail_out(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void exit_payload(uint32_t value) __attribute__((noreturn));
