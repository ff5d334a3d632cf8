import sys

sys.stderr.write("ImportError: libcudart.so.12: cannot open shared object file\n")
sys.exit(3)
