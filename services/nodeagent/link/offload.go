package link

import (
	"fmt"
	"os"

	"github.com/safchain/ethtool"
)

// checksumFeature is transmit checksum offload, by the kernel's name of it. Switching
// it off switches off segmentation offload too, which builds on it.
const checksumFeature = "tx-checksum-ip-generic"

// compareOffload makes sure that a device computes its checksums itself.
func compareOffload(namespace *os.File, device string, found *differences) error {
	on, err := offload(namespace, device)
	if err != nil {
		return fmt.Errorf("read offload of %s: %w", device, err)
	}
	if on {
		found.add(func() error { return switchOffloadOff(namespace, device) },
			"%s: transmit checksum offload is on, should be off", device)
	}
	return nil
}

// offload says whether transmit checksum offload is on.
func offload(namespace *os.File, device string) (on bool, err error) {
	err = withEthtool(namespace, func(e *ethtool.Ethtool) error {
		features, err := e.Features(device)
		on = features[checksumFeature]
		return err
	})
	return on, err
}

func switchOffloadOff(namespace *os.File, device string) error {
	return withEthtool(namespace, func(e *ethtool.Ethtool) error {
		return e.Change(device, map[string]bool{checksumFeature: false})
	})
}

// withEthtool runs fn with a socket of the namespace.
func withEthtool(namespace *os.File, fn func(*ethtool.Ethtool) error) error {
	var e *ethtool.Ethtool
	err := within(namespace, func() (err error) {
		e, err = ethtool.NewEthtool()
		return err
	})
	if err != nil {
		return fmt.Errorf("open ethtool socket: %w", err)
	}
	defer e.Close()
	return fn(e)
}
