import sys

from wire import begin, line, write

job = begin()
write(line(id=job, result={"text": "never whole"})[:20])
sys.exit(7)
