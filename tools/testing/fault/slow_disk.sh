#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# slow_disk - runs a command with a disk that takes the same time for each request
#
#	slow_disk MICROSECONDS MIB COMMAND...
#
# The disk is a memory-backed null_blk that completes by a timer. "{disk}" in the
# command stands for the device, "{dir}" for a new ext4 on it, which is made if the
# command mentions it. Needs root and CONFIG_BLK_DEV_NULL_BLK; ends with status 4
# (skip) without them, and with the command's status otherwise. Removes the disk.

if [ $# -lt 3 ]; then
	sed -n '4,11s/^# \{0,1\}//p' "$0"
	exit 1
fi
usec=$1
mib=$2
shift 2

CONFIG=/sys/kernel/config
NULLB=$CONFIG/nullb/slow_disk
disk=/dev/slow_disk
DIR=
unmount=

cleanup() {
	[ -n "$DIR" ] && umount "$DIR" 2>/dev/null
	[ -n "$DIR" ] && rmdir "$DIR"
	[ -d $NULLB ] && echo 0 > $NULLB/power && rmdir $NULLB
	[ -n "$unmount" ] && umount $CONFIG
}

skip() {
	echo "slow_disk: $1" >&2
	exit 4
}

trap cleanup EXIT
trap 'exit 130' INT TERM
if ! [ -d $CONFIG/nullb ] && mount -t configfs none $CONFIG 2>/dev/null; then
	unmount=1
fi
mkdir $NULLB 2>/dev/null || skip "no null_blk; run as root, with CONFIG_BLK_DEV_NULL_BLK"
for setting in size="$mib" memory_backed=1 irqmode=2 completion_nsec="$usec"000 power=1; do
	echo "${setting#*=}" > "$NULLB/${setting%%=*}" || skip "null_blk has no $setting"
done
case "$*" in
*{dir}*)
	DIR=$(mktemp -d)
	mkfs.ext4 -q -F "$disk" && mount -t ext4 "$disk" "$DIR" || skip "no ext4 on $disk"
esac
# Each argument by itself, with its blanks.
for arg; do
	shift
	set -- "$@" "$(echo "$arg" | sed "s,{disk},$disk,g; s,{dir},$DIR,g")"
done
"$@"
