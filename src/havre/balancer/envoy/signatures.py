"""Verifying OCI request signatures inside Envoy, so that it costs predictions no extra hop.

A few lines of Lua do what ``havre.auth.signature`` does for the API. The keys travel with the
routes, as metadata of the virtual host: a new key needs no new listener. The hash of the body is
signed, but Envoy's Lua cannot compute one: it is passed to the copy, which compares.

Every client gets this far, so it reads a bounded header once, from the front.
"""

from collections.abc import Mapping

from havre.auth.signature import WRONG_CLOCK
from havre.balancer.envoy.resources import PATH_HEADER, Json

SIGNATURE = "havre.signature"
BODY_HEADER = "x-havre-body-sha256"
CLOCK_SKEW_S = 300
LONGEST_AUTHORIZATION = 8192
"""Bytes, in both implementations. Ours have about 700."""
MAX_SIGNED_HEADERS = 32
"""Names of headers that a signature may cover, each once."""
LONGEST_DATE = 64
UNSIGNED = "Sign the request, its body included, with a key known here."


def key_metadata(keys: Mapping[str, str]) -> Json:
    """The public keys (base64 of DER, by key id) where the Lua below finds them."""
    return {"filter_metadata": {SIGNATURE: dict(keys)}}


# An error in Lua lets a request pass, so every one of them is caught and refused.
VERIFY = f"""
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local digits = {{}}
for at = 1, 64 do digits[alphabet:byte(at)] = at - 1 end

local function decode(text)
  local out, bits, count = {{}}, 0, 0
  for at = 1, #text do
    local digit = digits[text:byte(at)]
    if digit == nil then
      if text:sub(at):match("^=+$") then break end
      error("not base64")
    end
    bits, count = bits * 64 + digit, count + 6
    if count >= 8 then
      count = count - 8
      out[#out + 1] = string.char(math.floor(bits / 2 ^ count))
      bits = bits % 2 ^ count
    end
  end
  return table.concat(out)
end

local months = {{Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6,
                Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11, Dec = 12}}

local function seconds(date)
  local day, month, year, hour, minute, second =
    date:match("^%a+, (%d+) (%a+) (%d+) (%d+):(%d+):(%d+) GMT$")
  month = months[month]
  year = tonumber(year)
  if month <= 2 then year, month = year - 1, month + 12 end
  local days = 365 * year + math.floor(year / 4) - math.floor(year / 100)
    + math.floor(year / 400) + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
  return ((days * 24 + hour) * 60 + minute) * 60 + second
end

local function parameters(authorization)
  assert(#authorization <= {LONGEST_AUTHORIZATION})
  local scheme, at = authorization:match("^(%a+) +()")
  assert(scheme:lower() == "signature")
  local fields = {{}}
  while at <= #authorization do
    local name, value, comma, after = authorization:match('^(%a+)="([^"]*)" *(,?) *()', at)
    assert(fields[name] == nil and (comma == ",") == (after <= #authorization))
    fields[name], at = value, after
  end
  return fields
end

local function check(handle)
  local headers = handle:headers()
  assert(headers:getNumValues("authorization") == 1)
  local fields = parameters(headers:get("authorization"))
  assert(fields.algorithm:lower() == "rsa-sha256" and (fields.version or "1") == "1")
  local covered, lines = {{}}, {{}}
  for name in fields.headers:lower():gmatch("%S+") do
    assert(covered[name] == nil and #lines < {MAX_SIGNED_HEADERS})
    local value
    if name == "(request-target)" then
      value = headers:get(":method"):lower() .. " "
        .. (headers:get("{PATH_HEADER}") or headers:get(":path"))
    elseif name == "host" then
      value = headers:get(":authority")
    else
      assert(headers:getNumValues(name) == 1)
      value = headers:get(name)
    end
    covered[name] = value
    lines[#lines + 1] = name .. ": " .. value
  end
  assert(covered["(request-target)"] and covered["host"] and covered["content-length"])
  assert(covered["content-type"] and covered["x-content-sha256"])
  local date = covered["x-date"] or covered["date"]
  assert(#date <= {LONGEST_DATE})
  local now = os.time()
  if math.abs(now - seconds(date)) > {CLOCK_SKEW_S} then
    error({{reason = (covered["x-date"] and "x-date" or "date") .. "{WRONG_CLOCK} ("
      .. os.date("!%Y-%m-%dT%H:%M:%SZ", now) .. ")"}})
  end
  local der = decode(handle:virtualHost():metadata():get(fields.keyId))
  local key = handle:importPublicKey(der, #der):get()
  local signature, text = decode(fields.signature), table.concat(lines, "\\n")
  local ok = handle:verifySignature("sha256", key, signature, #signature, text, #text)
  assert(ok == true)
  headers:replace("{BODY_HEADER}", covered["x-content-sha256"])
end

function envoy_on_request(handle)
  local ok, why = pcall(check, handle)
  if not ok then
    local reason = type(why) == "table" and why.reason or "{UNSIGNED}"
    handle:respond({{[":status"] = "401"}}, reason)
  end
end
"""
