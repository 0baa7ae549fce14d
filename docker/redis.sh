#!/bin/sh
# Start the Redis of docker-compose.yml with three fifths of what its container may use (cgroup v2 or
# v1, else the machine): it has it to itself, and holds twice what changes while its file is rewritten.
# REDIS_MAXMEMORY, as Redis takes it, says another figure.
set -eu
bytes=$(awk '/^MemTotal:/ { printf "%.0f", $2 * 1024 }' /proc/meminfo)
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
  limit=$(cat "$file" 2>/dev/null || echo max)
  case $limit in
    *[!0-9]* | '') ;; # max
    *) if [ "$limit" -lt "$bytes" ]; then bytes=$limit; fi ;;
  esac
done
exec valkey-server --appendonly yes --appendfsync everysec --maxmemory-policy noeviction \
  --maxmemory "${REDIS_MAXMEMORY:-$((bytes / 5 * 3))}" "$@"
