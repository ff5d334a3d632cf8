import time

from wire import begin, write

begin()
write(b'{"jsonrpc": "2.0", "id": 2, "result": {"text": NaN}}\n')
time.sleep(600)
