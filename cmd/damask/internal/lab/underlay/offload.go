package underlay

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
)

// From linux/ethtool.h; x/sys has the ioctl but not the command.
const ethtoolSetTransmitChecksum = 0x17

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct {
	command uint32
	data    uint32
}

// ifreqEthtool is struct ifreq as SIOCETHTOOL reads it: padded to the 40 bytes of
// the kernel's union.
type ifreqEthtool struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// TransmitOffloadOff makes the kernel fill in checksums, and cut segments to size,
// before it hands frames to the interface. A switch in userspace gets frames from
// a packet socket, and passes on what is not filled in.
func TransmitOffloadOff(namespace, device string) error {
	err := enter.Do(enter.Namespaces{Net: namespace}, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		value := ethtoolValue{command: ethtoolSetTransmitChecksum}
		request := ifreqEthtool{data: unsafe.Pointer(&value)}
		copy(request.name[:unix.IFNAMSIZ-1], device)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("turn transmit offload of %s off: %w", device, err)
	}
	return nil
}
