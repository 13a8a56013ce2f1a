#!/bin/sh
# node-init.sh NAME DIR PAUSE: the first process of a node, in namespaces of its own.
set -e
name=$1 dir=$2 pause=$3
mount --make-rprivate /
hostname "$name"
mount -t proc proc /proc
mount -t sysfs sysfs /sys

# The kubelet writes settings of the whole machine: it is shown those it wants, and cannot change them.
mkdir -p "$dir/sysctl"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  key=${setting%=*}
  file=$dir/sysctl/$(echo "$key" | tr / .)
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/$key"
  mount -o remount,bind,ro "/proc/sys/$key"
done

mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while read -r folder options; do
  mkdir -p "/sys/fs/cgroup/$folder"
  mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/$folder"
  for controller in $(echo "$folder" | tr , ' '); do
    [ -e "/sys/fs/cgroup/$controller" ] || ln -s "$folder" "/sys/fs/cgroup/$controller"
  done
done <"$dir/cgroup-mounts"

# What is written below these two stays the node's; what the host has there is seen.
for folder in etc opt; do
  mount -t overlay -o "lowerdir=/$folder,upperdir=$dir/$folder/upper,workdir=$dir/$folder/work" overlay "/$folder"
done
mount --bind "$dir/lib" /var/lib
mount --bind "$dir/log" /var/log
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
mount --make-rshared /
touch "$dir/ready"
exec "$pause"
