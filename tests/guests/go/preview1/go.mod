module windlass.dev/guests/preview1

go 1.22
