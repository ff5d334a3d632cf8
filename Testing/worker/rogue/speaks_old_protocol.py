import time

from wire import greet

greet(protocol=0, model="of last year")
time.sleep(600)
