import time

from wire import greet

greet()
time.sleep(600)
