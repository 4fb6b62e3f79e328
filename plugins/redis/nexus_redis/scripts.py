"""Lua scripts: atomic steps in one round trip. Times are of Redis' clock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Script:
    """A script in Lua.

    Attributes:
        text: The script.
        keys: Number of keys it uses.
        sha: SHA-1 of the text, by which Redis knows a script it has run before.
    """

    text: str
    keys: int = 1
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute the digest."""
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


REPLACE = Script("""
-- old value, new value, milliseconds
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")

DELETE_IF = Script("""
-- value
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")

# Steps on one caller's account. Keys: the value's, the expiry times of the caller's values, and their sizes; the field
# "" is the sum. Arguments of the writing scripts: milliseconds, the limits in entries and bytes, the value.

_ACCOUNT = """
local value, ends, sizes = KEYS[1], KEYS[2], KEYS[3]
local function release(key)
  local size = redis.call('HGET', sizes, key)
  if size then
    redis.call('ZREM', ends, key)
    redis.call('HDEL', sizes, key)
    redis.call('HINCRBY', sizes, '', -size)
  end
end
local function charge()
  local milliseconds, time = tonumber(ARGV[1]), redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 1000)) do release(key) end
  local before, size = tonumber(redis.call('HGET', sizes, value) or '0'), #value + #ARGV[4]
  local sum = tonumber(redis.call('HGET', sizes, '') or '0') - before + size
  if size > before then
    if before == 0 and redis.call('ZCARD', ends) >= tonumber(ARGV[2]) then return 'entries' end
    if sum > tonumber(ARGV[3]) then return 'bytes' end
  end
  redis.call('ZADD', ends, string.format('%.0f', now + milliseconds), value)
  redis.call('HSET', sizes, value, size, '', string.format('%.0f', sum))
  for _, key in ipairs({ends, sizes}) do
    if redis.call('PTTL', key) < milliseconds then redis.call('PEXPIRE', key, milliseconds) end
  end
  redis.call('SET', value, ARGV[4], 'PX', milliseconds)
  return 1
end
"""

SCOPED_SET = Script(_ACCOUNT + "return charge()", keys=3)

SCOPED_ADD = Script(
    _ACCOUNT
    + """
local there = redis.call('GET', value)
if there then return {there} end
return charge()
""",
    keys=3,
)

SCOPED_REPLACE = Script(
    _ACCOUNT
    + """
-- and the old value
if redis.call('GET', value) ~= ARGV[5] then return 0 end
return charge()
""",
    keys=3,
)

SCOPED_DELETE = Script(
    _ACCOUNT
    + """
-- the value, if it must be that one
if ARGV[1] and redis.call('GET', value) ~= ARGV[1] then return 0 end
release(value)
return redis.call('DEL', value)
""",
    keys=3,
)

APPEND = Script(
    """
-- number of the first, entries to keep, milliseconds, entries...
local sent = tonumber(redis.call('GET', KEYS[2]) or '0')
local number = tonumber(ARGV[1]) - 1
for i = 4, #ARGV do
  number = number + 1
  if number > sent then redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'e', ARGV[i]) end
end
if number > sent then redis.call('SET', KEYS[2], number, 'PX', ARGV[3]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return number
""",
    keys=2,
)

# Rate limit strategies. Arguments: limit, window in microseconds. Each returns 1 or 0, the calls left, and microseconds
# until there are more. Numbers of this size are exact in Lua; returned ones are truncated to integers. Redis' clock may
# be set back: times further away than the window are ignored.

_NOW = """
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local milliseconds = math.ceil(window / 1000)
"""

FIXED_WINDOW = Script("""
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local milliseconds = math.ceil(window / 1000)
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
local left = redis.call('PTTL', KEYS[1])
if left < 0 or left > milliseconds then count, left = 0, milliseconds end
if count >= limit then return {0, 0, left * 1000} end
if count == 0 then
  redis.call('SET', KEYS[1], '1', 'PX', milliseconds)
else
  redis.call('INCR', KEYS[1])
end
return {1, limit - count - 1, left * 1000}
""")

# A list of the calls' times, oldest first.
MOVING_WINDOW = Script(
    _NOW
    + """
local oldest = tonumber(redis.call('LINDEX', KEYS[1], 0))
while oldest and (oldest <= now - window or oldest > now) do
  redis.call('LPOP', KEYS[1])
  oldest = tonumber(redis.call('LINDEX', KEYS[1], 0))
end
local count = redis.call('LLEN', KEYS[1])
if count >= limit then return {0, 0, (oldest or now) + window - now} end
redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], milliseconds)
return {1, limit - count - 1, (oldest or now) + window - now}
"""
)

# Two counters: of this window and of the one before, weighted by the part of it within the last window's length.
SLIDING_WINDOW = Script(
    _NOW
    + """
local index = math.floor(now / window)
local spent = (now - index * window) / window
local stored = redis.call('HMGET', KEYS[1], 'index', 'count', 'before')
local count, before = 0, 0
if tonumber(stored[1]) == index then
  count, before = tonumber(stored[2]), tonumber(stored[3])
elseif tonumber(stored[1]) == index - 1 then
  before = tonumber(stored[2])
end
local allowed = 0
if before * (1 - spent) + count + 1 <= limit then
  allowed, count = 1, count + 1
  redis.call('HSET', KEYS[1], 'index', string.format('%.0f', index), 'count', count, 'before', before)
  redis.call('PEXPIRE', KEYS[1], 2 * milliseconds)
end
local left = math.max(0, math.floor(limit - before * (1 - spent) - count))
local target = limit - left - 1
local reset
if before > 0 and target >= count then
  reset = 1 - (target - count) / before - spent
elseif count > 0 then
  reset = 1 - spent + math.max(0, 1 - target / count)
else
  reset = 1 - spent
end
return {allowed, left, math.ceil(reset * window)}
"""
)

HITS = {"fixed_window": FIXED_WINDOW, "moving_window": MOVING_WINDOW, "sliding_window": SLIDING_WINDOW}
"""The script of each strategy."""


def milliseconds(seconds: float) -> int:
    """Return an expiry time as Redis takes it: at least 1."""
    return max(1, round(seconds * 1000))
