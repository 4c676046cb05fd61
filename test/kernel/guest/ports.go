package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// openPort opens the virtio serial port of that name. A port can be open once
// only, and needs no terminal.
func openPort(name string) (*os.File, error) {
	const class = "/sys/class/virtio-ports"
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		entries, err := os.ReadDir(class)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			// The kernel learns the names after the ports.
			text, err := os.ReadFile(filepath.Join(class, e.Name(), "name"))
			if err == nil && strings.TrimSpace(string(text)) == name {
				return os.OpenFile("/dev/"+e.Name(), os.O_RDWR, 0)
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the machine has no serial port %s", name)
		}
	}
}

// receive reads one message. A port reads as ended as long as the kernel has not
// heard that the host's end is open.
func receive(lines *bufio.Reader, message any) error {
	var line []byte
	for {
		part, err := lines.ReadBytes('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return json.Unmarshal(line, message)
		case !errors.Is(err, io.EOF):
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
