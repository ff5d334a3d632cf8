from wire import begin, write

begin()
for _ in range(1024):
    write(b"x" * (1 << 20))
write(b"\n")
