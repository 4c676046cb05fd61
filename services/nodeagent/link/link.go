// Package link makes the kernel's side of the node's network: tun0's address and
// routes, the veth pair of each pod, and what is inside the pod's network namespace.
//
// It owns tun0 (all of its IPv4 addresses and routes), the host ends that
// it is told of, the pods' ends with the addresses and routes it gave them, and the
// nftables table of the quarantine. It promises that every call compares first and
// changes only what differs, that it says in one line of text what that was, and
// that calls for different pods do not wait for one another in this package.
//
// On the userspace datapath it does two things more: see Config.Userspace.
//
// It must not touch any other interface of the node, and must not know flows.
package link

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Config says where the node is and how its switch forwards.
type Config struct {
	// Namespace is the path of the node's network namespace. Empty: the one that
	// the process runs in.
	Namespace string
	// Userspace is true when the switch's datapath is netdev. Then frames that arrive
	// on a switch port also reach the node's kernel, which would answer and route them
	// around the flows: so each pod's host end is put into quarantine. And checksums
	// that the kernel leaves to hardware would never be filled in: so transmit
	// offload is switched off on the pods' interfaces and on tun0.
	Userspace bool
}

// Links works on one node. Its methods can be called from any goroutine.
type Links struct {
	node      *os.File // the node's network namespace
	userspace bool
	rules     rules // for the quarantine
}

// Open makes a Links. The caller closes it.
func Open(config Config) (*Links, error) {
	path := config.Namespace
	if path == "" {
		path = ownNamespace
	}
	node, err := openNamespace(path)
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	return &Links{node: node, userspace: config.Userspace}, nil
}

// Close lets go of the node's namespace.
func (l *Links) Close() error { return errors.Join(l.rules.close(), l.node.Close()) }

// handle answers a netlink socket in a namespace. Each call has its own: requests on
// one socket wait for one another, and the removal of a link takes the kernel long.
func handle(namespace *os.File) (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(netns.NsHandle(namespace.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return h, nil
}

// difference is one thing that is not as it should be, and how to make it so.
type difference struct {
	text   string
	repair func() error
}

// differences collects what a comparison finds.
type differences []difference

func (d *differences) add(repair func() error, format string, args ...any) {
	*d = append(*d, difference{text: fmt.Sprintf(format, args...), repair: repair})
}

// texts answers the differences without repairing any.
func (d differences) texts() []string {
	var lines []string
	for _, each := range d {
		lines = append(lines, each.text)
	}
	return lines
}

// repair repairs in order, and stops at the first that cannot be repaired. It answers
// the texts of those that were.
func (d differences) repair() ([]string, error) {
	var lines []string
	for _, each := range d {
		if err := each.repair(); err != nil {
			return lines, fmt.Errorf("%s: repair: %w", each.text, err)
		}
		lines = append(lines, each.text)
	}
	return lines, nil
}
