package lease

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The log is one file: a line that names the format, then records, each one
//
//	length of the body, 4 bytes, big endian
//	CRC-32C of the body, 4 bytes, big endian
//	body
//
// A change is one append of one record by one write call. kill -9 cannot lose
// what write has returned for, because the kernel has it. It can leave the last
// record incomplete, and then Open cuts it off: nobody was told about it.
//
// Appends are not synced to the disk. Only a power failure or a kernel crash
// loses what the kernel has, and after either no sandbox is alive, so every
// lease is void anyway; a sync would put milliseconds on each pod's way up. A
// rewrite is synced before it takes the old file's place: a rename must never
// leave an empty file behind.
const (
	logName   = "leases.log"
	logFormat = "damask-leases 1\n"
	headSize  = 8
	// bodyLimit bounds what a damaged length can ask for. An attachment has
	// about 300 bytes; labels can make it longer.
	bodyLimit = 1 << 20
	// slack is how much history is never worth a rewrite.
	slack = 64 << 10
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// log is the open file.
type log struct {
	dir  string
	lock *os.File
	file *os.File
	size int64
	base int64 // size after the last rewrite
	torn int64
	dead error // set when the file's content is no longer known
}

// openLog takes the directory and gives every body to replay, in order.
func openLog(dir string, replay func(body []byte) error) (*log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { // an older, wider directory is narrowed
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	l := &log{dir: dir, lock: lock}
	if err := l.load(replay); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func lockDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process uses this directory: %w", err), lock.Close())
	}
	return lock, nil
}

func (l *log) path() string { return filepath.Join(l.dir, logName) }

func (l *log) load(replay func(body []byte) error) error {
	file, err := os.OpenFile(l.path(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	l.file = file
	data, err := os.ReadFile(l.path())
	if err != nil {
		return err
	}
	if len(data) < len(logFormat) && bytes.HasPrefix([]byte(logFormat), data) {
		data = nil // new, or killed while the first line was written
	} else if !bytes.HasPrefix(data, []byte(logFormat)) {
		return fmt.Errorf("%s is not a lease log of format %q", logName, logFormat[:len(logFormat)-1])
	}
	good, err := scan(data, replay)
	if err != nil {
		return err
	}
	l.torn = int64(len(data)) - good
	l.size, l.base = good, 0
	if data == nil {
		return l.begin()
	}
	if l.torn > 0 {
		return file.Truncate(good)
	}
	return nil
}

// begin writes the first line of an empty log.
func (l *log) begin() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if _, err := l.file.WriteAt([]byte(logFormat), 0); err != nil {
		return err
	}
	l.size = int64(len(logFormat))
	return nil
}

// scan gives each whole record after the first line to replay, and answers where
// the whole ones end.
func scan(data []byte, replay func(body []byte) error) (good int64, err error) {
	if len(data) == 0 {
		return 0, nil
	}
	at := len(logFormat)
	for {
		body, ok := next(data[at:])
		if !ok {
			return int64(at), nil
		}
		if err := replay(body); err != nil {
			return 0, fmt.Errorf("record at byte %d: %w", at, err)
		}
		at += headSize + len(body)
	}
}

// next cuts the first record off; false when it is not whole. An empty body is
// not: zeros at the end of a file are what a power failure leaves.
func next(data []byte) (body []byte, ok bool) {
	if len(data) < headSize {
		return nil, false
	}
	size := binary.BigEndian.Uint32(data)
	if size == 0 || size > bodyLimit || int(size) > len(data)-headSize {
		return nil, false
	}
	body = data[headSize : headSize+int(size)]
	return body, crc32.Checksum(body, crcTable) == binary.BigEndian.Uint32(data[4:])
}

// frame appends the record of body to data.
func frame(data, body []byte) []byte {
	data = binary.BigEndian.AppendUint32(data, uint32(len(body)))
	data = binary.BigEndian.AppendUint32(data, crc32.Checksum(body, crcTable))
	return append(data, body...)
}

// append writes one record, whole or not at all.
func (l *log) append(body []byte) error {
	if l.dead != nil {
		return l.dead
	}
	if len(body) > bodyLimit {
		return fmt.Errorf("record of %d bytes: at most %d", len(body), bodyLimit)
	}
	data := frame(make([]byte, 0, headSize+len(body)), body)
	if _, err := l.file.WriteAt(data, l.size); err != nil {
		// A full disk can have taken a part. Later records must not follow it.
		if cut := l.file.Truncate(l.size); cut != nil {
			l.dead = fmt.Errorf("lease log cannot be repaired, restart the agent: %w", errors.Join(err, cut))
		}
		return err
	}
	l.size += int64(len(data))
	return nil
}

// grown says whether a rewrite would pay.
func (l *log) grown() bool { return l.size > slack && l.size > 2*l.base }

// rewrite replaces the log by one that holds only bodies.
func (l *log) rewrite(bodies [][]byte) error {
	data := []byte(logFormat)
	for _, body := range bodies {
		data = frame(data, body)
	}
	l.base = l.size // when it goes wrong, it is not tried again at once
	path := l.path() + ".new"
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := replaceFile(file, data, path, l.path()); err != nil {
		return errors.Join(err, file.Close())
	}
	old := l.file
	l.file, l.size, l.base = file, int64(len(data)), int64(len(data))
	return errors.Join(old.Close(), syncDir(l.dir))
}

func replaceFile(file *os.File, data []byte, from, to string) error {
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// close syncs; it can be called twice.
func (l *log) close() error {
	var errs []error
	if l.file != nil {
		errs = append(errs, l.file.Sync(), l.file.Close())
		l.file = nil
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
		l.lock = nil
	}
	if l.dead == nil {
		l.dead = errors.New("lease store is closed")
	}
	return errors.Join(errs...)
}
