package identity

import (
	"io/fs"
	"syscall"
)

// inode tells a file from another one that was renamed over it.
func inode(info fs.FileInfo) uint64 {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return sys.Ino
	}
	return 0
}
