import time

from wire import begin, write

begin()
write(b"Loading checkpoint shards: 100%|##########| 3/3 \xff\xfe\n")
time.sleep(600)
