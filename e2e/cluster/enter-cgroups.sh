#!/bin/sh
# enter-cgroups.sh DIR COMMAND...: runs a command in the cgroups that DIR/cgroups lists.
set -e
dir=$1
shift
while read -r group; do echo $$ >"$group/cgroup.procs"; done <"$dir/cgroups"
exec "$@"
