// Package datapath is what differs between a lab on the kernel's datapath and one
// on the userspace datapath.
//
// It owns the list of the differences: the rest of the lab asks it and never for
// a name. It promises that a Datapath that it returns exists on this machine. It
// must not make anything.
package datapath

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What a person can ask for.
const (
	// System is the kernel's module openvswitch, as in production.
	System = "system"
	// Netdev is ovs-vswitchd itself, for where there is no such module.
	Netdev = "netdev"
	// Auto is System where the kernel has the module, else Netdev.
	Auto = "auto"
)

// Default is the datapath of a lab that asks for none: it is the same on every
// machine, and leaves the host's kernel alone.
const Default = Netdev

// Datapath is how a lab forwards.
type Datapath struct {
	// Name is System or Netdev, as Open vSwitch and the agent call it.
	Name string
	// SwitchFlags are those of ovs-vswitchd.
	SwitchFlags []string
	// PhysicalBridge is the bridge that has a node's cable and the node IP; empty: the
	// cable's interface has the node IP itself. The userspace datapath finds the way of
	// tunnel packets, and neighbours, through a bridge of its own. The node's kernel
	// sees the frames of the cable too then, and must not.
	PhysicalBridge string
	// ChecksumOffload tells whether frames may be handed over before their checksum is
	// filled in. A switch in userspace gets frames from a packet socket, and passes on
	// what is not filled in.
	ChecksumOffload bool
}

// Valid tells whether a name can be asked for.
func Valid(name string) bool { return name == System || name == Netdev || name == Auto }

// Of answers the datapath of that name on this machine. To ask for another one than
// Netdev makes the kernel load its module, if it is installed.
func Of(name string) (Datapath, error) { return choose(name, kernelHas, taps) }

// choose is Of on another machine.
func choose(name string, kernelHas func() (bool, error), taps func() error) (Datapath, error) {
	system := Datapath{Name: System, ChecksumOffload: true}
	// Without the flag it would claim the host's kernel datapath, if there is one.
	netdev := Datapath{Name: Netdev, SwitchFlags: []string{"--disable-system"}, PhysicalBridge: "br-phy"}
	switch name {
	case Netdev:
		return netdev, taps()
	case System, Auto:
	default:
		return Datapath{}, fmt.Errorf("datapath %q is none of system, netdev, auto", name)
	}
	there, err := kernelHas()
	switch {
	case err != nil:
		return Datapath{}, fmt.Errorf("look for the kernel's datapath: %w", err)
	case there:
		return system, nil
	case name == Auto:
		return netdev, taps()
	}
	return Datapath{}, errors.New("the kernel has no openvswitch module, which datapath system is: " +
		"install it, take --datapath netdev, or use a virtual machine that has it (`make test-kernel`)")
}

// taps tells why there can be no switch in userspace.
func taps() error {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return errors.New("there is no /dev/net/tun, which userspace switches need: load the kernel module tun, or give the container the device")
	}
	return nil
}

// kernelHas tells whether the kernel has the module. Asking for its generic netlink
// family loads it.
func kernelHas() (bool, error) {
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}
