/* What the runner must cope with: `how` says what goes wrong in the second of three tests. */
#include "../lib/payload.h"

static void passes(void) {}

static void goes_wrong(void) {
	const char *how = arg_text("how", "");
	if (text_equal(how, "check")) check_that(false, "%u is not %u", 1u, 2u);
	if (text_equal(how, "skip")) skip("not today");
	if (text_equal(how, "exception")) *(volatile uint64_t *)0x7f0000002000ul = 1;
	if (text_equal(how, "bail")) bail_out("it makes no sense to go on");
	if (text_equal(how, "triple-fault")) {
		struct {
			uint16_t limit;
			uint64_t base;
		} __attribute__((packed)) nothing = {0, 0};
		__asm__ volatile("lidt %0; ud2" : : "m"(nothing));
	}
	if (text_equal(how, "hang")) {
		for (;;) cpu_relax();
	}
	if (text_equal(how, "flood")) {
		/* Without an end of line, and with text that looks like a result. */
		for (unsigned i = 0; i < 200; i++) print("not ok not ok ok 7 ");
		print("\n1.2.3\nok\nnot ok\n# begin\n");
	}
}

void payload_main(void) {
	static const struct test tests[] = {{"first", passes}, {"second", goes_wrong}, {"third", passes}};
	RUN_TESTS(tests);
}
