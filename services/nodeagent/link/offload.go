package link

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// compareOffload makes sure that a device computes its checksums itself. Switching
// that off switches off segmentation offload too, which builds on it.
func compareOffload(namespace *os.File, device string, found *differences) error {
	on, err := checksumOffload(namespace, device, unix.ETHTOOL_GTXCSUM)
	if err != nil {
		return fmt.Errorf("read offload of %s: %w", device, err)
	}
	if on {
		found.add(func() error {
			_, err := checksumOffload(namespace, device, unix.ETHTOOL_STXCSUM)
			return err
		}, "%s: transmit checksum offload is on, should be off", device)
	}
	return nil
}

// ethtoolValue is the kernel's struct ethtool_value.
type ethtoolValue struct {
	command uint32
	data    uint32
}

// ifreq is the kernel's struct ifreq as SIOCETHTOOL reads it.
type ifreq struct {
	name  [unix.IFNAMSIZ]byte
	value *ethtoolValue
	_     [16]byte // the rest of the kernel's union
}

// checksumOffload runs one of the two old commands for transmit checksums: GTXCSUM
// answers whether any kind is on, STXCSUM switches all kinds off, SCTP's too. Each is
// one call, where the commands by feature name read every name of the device first:
// 10 µs instead of half a millisecond, twice for each pod.
func checksumOffload(namespace *os.File, device string, command uint32) (on bool, err error) {
	value := &ethtoolValue{command: command}
	request := &ifreq{value: value}
	if len(device) >= len(request.name) {
		return false, unix.ENODEV
	}
	copy(request.name[:], device)
	var pins runtime.Pinner
	pins.Pin(value)
	pins.Pin(request)
	defer pins.Unpin()
	err = within(namespace, func() error {
		socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open socket: %w", err)
		}
		defer unix.Close(socket)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(request)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	return value.data != 0, err
}
