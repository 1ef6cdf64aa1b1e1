# SPDX-License-Identifier: GPL-2.0
# The user interface of unstall: every target is one script.  'make help'.

# What may stand on the command line; a mistyped name must not pass silently.
KNOWN := ACCEL ALLOW_DRIFT ARCH BASE CMD COUNT DEBUG FORCE HOW LINUX LONG M MEM N NUMA \
	 SECONDS SIGNOFF SMP T TOPIC TOPICS TREE V W WARM
name = $(firstword $(subst =, ,$(1)))
given = $(filter command,$(origin $(1)))
BAD := $(strip $(foreach v,$(MAKEOVERRIDES),$(if $(call given,$(call name,$(v))),\
		$(filter-out $(KNOWN),$(call name,$(v))))))
ifneq ($(BAD),)
$(error $(BAD): no target takes that variable; they are: $(KNOWN))
endif

MAKEFLAGS += --no-print-directory
export UNSTALL_TARGET = $@
go := @scripts

.DEFAULT_GOAL := help
.PHONY: help run check deps doctor series am tree refresh kernel kunit ksft expect \
	mm-test mutants debug-check race-check arches bench bench-quick bench-keep perf ab \
	shell vng gate arm64-gate clean distclean

help:
	$(go)/help

##@ First
run:		## build the guest with the series, boot it, run all our tests, sum up
	$(go)/deps run $(filter arm64 riscv64 s390x,$(ARCH:-64k=))
	$(go)/run
check:		## all: run, arm64, every commit, scripts, style; LONG=1: each topic alone
	$(go)/deps run check arm64 bench stress
	$(go)/check
doctor:		## say what this machine lacks, with the remedy for each
	$(go)/doctor

##@ Take the series
series:		## compose out/<base>/: patches, mbox, bundle; SIGNOFF="Name <mail>"
	$(go)/compose
am:		## apply the series to LINUX=/your/tree on a new branch
	$(go)/am

##@ Test
ksft:		## run kselftest categories of mm in the guest: T="mremap ksm"
	$(go)/run --ksft
kunit:		## run our KUnit suites through mainline's kunit.py
	$(go)/kunit
mm-test:	## all of mm's kselftests, base against ours: T=..., HOW="thp memcg"
	$(go)/mm-test
mutants:	## each mistake of tests/mutants/ is noticed by the tests: M="ksm-*"
	$(go)/deps run $(if $(M),,arm64)
	$(go)/mutants
debug-check:	## an hour in the debug kernel: all tests, stress-ng, trinity, leaks
	$(go)/deps run stress
	$(go)/debug-check
race-check:	## KCSAN in mm: base and ours under the same stress, what ours has more
	$(go)/deps run stress
	$(go)/race-check
gate:		## machine code of the page-table move: no vmemmap access
	$(go)/gate
arm64-gate:	## the same for arm64, cross-compiled
	@ARCH=arm64 scripts/gate
arches:		## compile for other architectures, compilers, options: T="nommu no-ksm"
	$(go)/deps run arches
	$(go)/arches
expect:		## take the last run's results as the expected ones
	$(go)/run --expect

##@ Measure
bench:		## base against ours, all workloads: a report; W="ksm lru" N=3
	$(go)/deps run bench $(if $(W),,arm64)
	$(go)/bench
bench-quick:	## a few of them, in less than 5 minutes once the kernels are built
	$(go)/deps run bench
	$(go)/bench --quick
bench-keep:	## take the last bench as Documentation/results/ and the tables
	$(go)/bench --keep
perf:		## perf stat, stacks and flame graphs of both: W=lru
	$(go)/deps run bench perf
	$(go)/perf
ab:		## base and ours under a deterministic clock: CMD="..." COUNT="func:f"
	$(go)/ab

##@ Hack
kernel:		## configure and build the guest kernel
	$(go)/kernel
shell:		## a shell in the guest; Ctrl-A X leaves it
	$(go)/shell
vng:		## the same kernel under virtme-ng, where that is installed
	$(go)/vng
tree:		## a git worktree of the series to hack on
	$(go)/tree
refresh:	## take the hacked tree's commits back into patches/ and the files
	$(go)/refresh

##@ Keep house
deps:		## install the packages that this machine lacks
	$(go)/deps run check arm64 arches bench stress perf
clean:		## remove what was built; trees and downloads stay
	$(go)/clean
distclean:	## remove build/ and out/; downloads and ccache stay
	$(go)/clean --all
