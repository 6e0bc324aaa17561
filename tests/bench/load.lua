-- What tests/bench/load.py gives to wrk. The first argument is a file of requests: one a line, method, path and body
-- separated by tabs. With a second one, each request gets an Idempotency-Key of its own that begins with it.
-- With "once" after it, each request is sent once: a thread stops after the last. A fourth one is the pause in
-- milliseconds between an answer and the next request of the connection.
local requests = {}
local prefix, once
local sent = 0

function init(args)
  prefix, once = args[2] ~= "-" and args[2] or nil, args[3] == "once"
  local pause = tonumber(args[4])
  -- wrk looks whether there is such a function, and asks it each time
  if pause > 0 then delay = function() return pause end end
  for line in io.lines(args[1]) do
    local method, path, body = line:match("^([^\t]*)\t([^\t]*)\t(.*)$")
    if body == "" then body = nil else wrk.headers["Content-Type"] = "application/json" end
    requests[#requests + 1] = prefix and {method, path, body} or wrk.format(method, path, nil, body)
  end
end

function request()
  sent = sent + 1
  if once and sent >= #requests then wrk.thread:stop() end
  local this = requests[(sent - 1) % #requests + 1]
  if not prefix then return this end
  wrk.headers["Idempotency-Key"] = prefix .. sent
  return wrk.format(this[1], this[2], nil, this[3])
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%f,"refused":%d,"broken":%d,"p50":%f,"p99":%f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000
  ))
end
