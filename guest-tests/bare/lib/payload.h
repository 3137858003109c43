/* Everything a payload needs. It defines payload_main, which runs with interrupts off and the local APIC on. */
#pragma once
#include "acpi.h"
#include "apic.h"
#include "args.h"
#include "clock.h"
#include "console.h"
#include "cpu.h"
#include "memory.h"
#include "mmio.h"
#include "msi.h"
#include "paging.h"
#include "pci.h"
#include "result.h"
#include "start-info.h"
#include "trap.h"

void payload_main(void);
