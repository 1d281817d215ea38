/**
 * The scripts that run inside Redis. Each names its keys, all in one slot, and depends on nothing but keys and
 * arguments; a table is a hash of rows (JSON by field) with a sorted set of the fields, whose order is the rows'.
 */

/** KEYS: a hash for each field in ARGV. The rows, false where there is none. */
export const readRows = `
local rows = {}
for at, key in ipairs(KEYS) do rows[at] = redis.call('HGET', key, ARGV[at]) end
return rows`;

/** KEYS: rows, order. ARGV: from, to, limit, "REV" or "". The rows in order. */
export const readRange = `
local limit = tonumber(ARGV[3])
local fields
if ARGV[4] == 'REV' then
  fields = redis.call('ZRANGE', KEYS[2], ARGV[1], ARGV[2], 'BYLEX', 'REV', 'LIMIT', 0, limit)
else
  fields = redis.call('ZRANGE', KEYS[2], ARGV[1], ARGV[2], 'BYLEX', 'LIMIT', 0, limit)
end
local found = {}
for at, field in ipairs(fields) do found[at] = redis.call('HGET', KEYS[1], field) end
return found`;

/**
 * KEYS: rows, order, then what is to live on. ARGV: from, at most, for how long (ms). A page of fields in order, and the
 * rows, false where there is none.
 */
export const readPage = `
for at = 3, #KEYS do redis.call('PEXPIRE', KEYS[at], ARGV[3]) end
local fields = redis.call('ZRANGE', KEYS[2], ARGV[1], '+', 'BYLEX', 'LIMIT', 0, ARGV[2])
local rows = {}
for at, field in ipairs(fields) do rows[at] = redis.call('HGET', KEYS[1], field) end
return {fields, rows}`;

/**
 * One write with its feed entries, or none of it: the rows must still be what they were when it was decided.
 * KEYS: seq, feed, commit, blob index, names, then the tables (rows and order in turn). ARGV: the commit as JSON, its id,
 * the feed's length, how long the commit is remembered (ms), what it gives as JSON or "". Says "conflict",
 * "missing <sha256>" or "ok <last seq> <JSON>". Asked again, after a broken connection too, it says what it said: the
 * commit key is written anew, for WAIT to wait for.
 */
export const commit = `
local said = redis.call('GET', KEYS[3])
if said then
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
  return said
end
local commit = cjson.decode(ARGV[1])
for _, check in ipairs(commit.checks) do
  if redis.call('HGET', KEYS[check[1]], check[2]) ~= check[3] then return 'conflict' end
end
for _, sha256 in ipairs(commit.needs) do
  if not redis.call('ZSCORE', KEYS[4], sha256) then return 'missing ' .. sha256 end
end
for _, row in ipairs(commit.removes) do
  redis.call('HDEL', KEYS[row[1]], row[2])
  redis.call('ZREM', KEYS[row[1] + 1], row[2])
end
for _, row in ipairs(commit.puts) do
  redis.call('HSET', KEYS[row[1]], row[2], row[3])
  redis.call('ZADD', KEYS[row[1] + 1], 0, row[2])
end
for _, name in ipairs(commit.names) do
  if redis.call('HINCRBY', KEYS[5], name[1], name[2]) <= 0 then redis.call('HDEL', KEYS[5], name[1]) end
end
local seq = 0
for _, note in ipairs(commit.notes) do
  seq = redis.call('INCR', KEYS[1])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], seq .. '-0', 'change', note, 'commit', ARGV[2])
end
local done = 'ok ' .. seq .. ' ' .. ARGV[5]
redis.call('SET', KEYS[3], done, 'PX', ARGV[4])
return done`;

/** KEYS: commit. ARGV: how long it is remembered (ms). What the commit has said; written anew, as by `commit`. */
export const recallCommit = `
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])`;

/** KEYS: seq, feed. ARGV: since, at most. The newest number, and the entries after \`since\`. */
export const readFeed = `
local entries = redis.call('XRANGE', KEYS[2], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])
return {redis.call('GET', KEYS[1]) or '0', entries}`;

/**
 * KEYS: ready, seq, feed, then pairs of an old key and the new one that takes its name, then what must be empty. ARGV:
 * where the pairs end among the keys, how long it is known that it was done (ms), an entry of the feed or "", its commit,
 * then how much was put into each new key, of which a Redis that evicts keys may have lost some: "gone".
 * Says "done", "full" or "gone"; asked again after a broken connection it says what it said. A number without its entry:
 * whoever followed the feed reloads; the entry behind it wakes who waits.
 */
export const replaceTables = `
local last = tonumber(ARGV[1])
local ready = redis.call('GET', KEYS[1])
if ready ~= 'yes' then return ready or 'gone' end
for at = 4, last, 2 do
  local key = KEYS[at + 1]
  local count = redis.call('TYPE', key).ok == 'zset' and 'ZCARD' or 'HLEN'
  if redis.call(count, key) ~= tonumber(ARGV[at / 2 + 3]) then return 'gone' end
end
for at = last + 1, #KEYS do
  if redis.call('EXISTS', KEYS[at]) == 1 then return 'full' end
end
redis.call('SET', KEYS[1], 'done', 'PX', ARGV[2])
redis.call('INCR', KEYS[2])
redis.call('DEL', KEYS[3])
if ARGV[3] ~= '' then
  redis.call('XADD', KEYS[3], redis.call('INCR', KEYS[2]) .. '-0', 'change', ARGV[3], 'commit', ARGV[4])
end
for at = 4, last, 2 do
  if redis.call('EXISTS', KEYS[at + 1]) == 1 then
    redis.call('RENAME', KEYS[at + 1], KEYS[at])
    redis.call('PERSIST', KEYS[at])
  else
    redis.call('DEL', KEYS[at])
  end
end
return 'done'`;

/**
 * KEYS: reply. ARGV: the reply as JSON, how one of the same holder begins, its life (ms). What lives and is another's, or
 * this. Nothing is decoded: a text of JavaScript's may be none of Lua's.
 */
export const keepReply = `
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 1, #ARGV[2]) ~= ARGV[2] then return there end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return ARGV[1]`;

/** KEYS: reply. ARGV: how one of the holder begins. */
export const dropReply = `
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 1, #ARGV[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`;

/** KEYS: blob. ARGV: a new token, how many bytes. Whether so many are there; if so, they now belong to this put. */
export const touchBlob = `
if redis.call('HEXISTS', KEYS[1], 'bytes') == 0 then return 0 end
local there = redis.call('HSTRLEN', KEYS[1], 'bytes')
for at = 1, tonumber(redis.call('HGET', KEYS[1], 'more') or 0) do
  there = there + redis.call('HSTRLEN', KEYS[1], 'bytes:' .. at)
end
if there ~= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'put', ARGV[1])
return 1`;

/** KEYS: blob. ARGV: token, the first part, the fields of all others. Whether those are there, and with it the whole. */
export const completeBlob = `
for at = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 0 then return 0 end
end
redis.call('HSET', KEYS[1], 'put', ARGV[1], 'bytes', ARGV[2])
if #ARGV > 2 then redis.call('HSET', KEYS[1], 'more', #ARGV - 2) end
return 1`;

/** KEYS: blob. ARGV: the token of a put that failed, whose parts go unless another put goes on with them. */
export const abandonBlob = `
if redis.call('HEXISTS', KEYS[1], 'bytes') == 1 or redis.call('HGET', KEYS[1], 'put') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`;

/** KEYS: blob. ARGV: the token that was there when the blob was given up; a later put keeps it. */
export const removeBlob = `
if redis.call('HGET', KEYS[1], 'put') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`;

/** KEYS: pending, the blob's puts. ARGV: sha256, now, token, how long a put may take (ms). */
export const beginPut = `
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[3])
return redis.call('PEXPIRE', KEYS[2], ARGV[4])`;

/** KEYS: blob index, pending, the blob's puts. ARGV: sha256, now, token. The bytes are there, and safe for an hour. */
export const indexBlob = `
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[3])
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
return 1`;

/**
 * KEYS: blob index, names, pending, removing. ARGV: before. Blobs put before then that nothing names; those whose put or
 * removal never ended are among them. What makes room is written first: a full Redis refuses a script that begins to grow.
 */
export const findUnnamed = `
for _, key in ipairs({KEYS[3], KEYS[4]}) do
  for _, sha256 in ipairs(redis.call('ZRANGE', key, '-inf', '(' .. ARGV[1], 'BYSCORE')) do
    redis.call('ZREM', key, sha256)
    redis.call('ZADD', KEYS[1], 'NX', 0, sha256)
  end
end
local unnamed = {}
for _, sha256 in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', '(' .. ARGV[1], 'BYSCORE')) do
  if redis.call('HEXISTS', KEYS[2], sha256) == 0 then unnamed[#unnamed + 1] = sha256 end
end
return unnamed`;

/** KEYS: hold. ARGV: whose work it is, for how long it is believed to go on (ms). */
export const holdBlobs = `
redis.call('SADD', KEYS[1], ARGV[1])
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/**
 * KEYS: blob index, names, pending, removing, hold. ARGV: sha256, before, now. Gives a blob up if it is still unnamed and
 * was put before then, nobody is putting it, and no backup is under way: from here on nothing can name it until it is
 * put again.
 */
export const giveUpBlob = `
local at = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not at or tonumber(at) >= tonumber(ARGV[2]) then return 0 end
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 or redis.call('EXISTS', KEYS[5]) == 1 then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[1])
return 1`;
