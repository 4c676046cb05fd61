package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelFamily is the generic netlink family that the kernel module registers. Asking
// for it makes the kernel load the module, when it is installed.
const kernelFamily = "ovs_datapath"

// DatapathType answers which datapath type this machine can do: SystemDatapath where
// the kernel module is, else UserspaceDatapath.
//
// What ovs-vswitchd reports is not enough: OVS 3.1 lists "system" among
// Open_vSwitch.datapath_types also where the kernel has no such module, and a bridge
// of that type then has no ports and only the log says so. So the kernel is asked.
func (b *Bridge) DatapathType(ctx context.Context) (string, error) {
	var types []string
	err := b.retried(ctx, func(s *session) error {
		root, err := s.root()
		if err != nil {
			return err
		}
		types = root.DatapathTypes
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("detect datapath type: %w", err)
	}
	return chooseDatapath(types, kernelDatapath)
}

// chooseDatapath decides from what the switch was built with and what the kernel has.
func chooseDatapath(types []string, kernel func() (bool, error)) (string, error) {
	if slices.Contains(types, SystemDatapath) {
		there, err := kernel()
		if err != nil {
			return "", fmt.Errorf("detect datapath type: %w", err)
		}
		if there {
			return SystemDatapath, nil
		}
	}
	if slices.Contains(types, UserspaceDatapath) {
		return UserspaceDatapath, nil
	}
	return "", fmt.Errorf("detect datapath type: the kernel has no openvswitch module and ovs-vswitchd knows only %v", types)
}

// kernelDatapath says whether the kernel module is there.
func kernelDatapath() (bool, error) {
	_, err := netlink.GenlFamilyGet(kernelFamily)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOENT):
		return false, nil
	default:
		return false, fmt.Errorf("ask the kernel for %s: %w", kernelFamily, err)
	}
}
