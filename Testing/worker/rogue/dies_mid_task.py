import sys

from wire import begin

begin()
sys.stderr.write("the last thing it said\n")
sys.exit(7)
