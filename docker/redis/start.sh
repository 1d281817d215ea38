#!/bin/sh
# Starts Redis for one user, "foreword", with the rights that README.md names, and nobody else. REDIS_PASSWORD is its
# password; only its hash reaches Redis's file of users, so that any text will do.
#
# "default" is off, so that nobody can be it, but keeps its rights: Redis reads its append-only file in its name, and
# skips every transaction in there that "default" may not do.
#
#   sh start.sh redis.conf [more of redis-server's options]
set -eu
: "${REDIS_PASSWORD:?a password is needed}"
hash="$(printf %s "$REDIS_PASSWORD" | sha256sum | cut -d' ' -f1)"
umask 077
users="$(mktemp)"
cat > "$users" <<USERS
user default off resetpass ~* &* +@all
user foreword on #$hash ~{fw}* ~fw:blob:* ~{fw-jobs}* +@all -@admin -@dangerous +info
USERS
unset REDIS_PASSWORD
exec redis-server "$@" --aclfile "$users"
