import time

from wire import begin, say

say(id=begin(), result={"txet": 1})
time.sleep(600)
