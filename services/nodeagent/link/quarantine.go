package link

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// quarantineTable is the name of the nftables table, of the netdev family, that has
// one chain for each device in quarantine, named like the device.
const quarantineTable = "damask_quarantine"

func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: quarantineTable}
}

func (l *Links) nftables() (*nftables.Conn, error) {
	return nftables.New(nftables.WithNetNSFd(int(l.node.Fd())))
}

// Quarantine makes the node's kernel drop everything that arrives on a device. A
// switch in userspace reads its ports by packet sockets, which see a frame before
// this does. Calling it again, also for a device that was made anew under the same
// name, puts the chain right. Other devices are not affected.
func (l *Links) Quarantine(device string) error {
	conn, err := l.nftables()
	if err != nil {
		return fmt.Errorf("quarantine %s: %w", device, err)
	}
	drop := nftables.ChainPolicyDrop
	chain := &nftables.Chain{
		Table: conn.AddTable(table()), Name: device, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter,
		Policy: &drop, Device: device,
	}
	// Added, deleted and added in one transaction: whatever was there under that name,
	// bound to a device that is gone perhaps, is replaced.
	conn.AddChain(chain)
	conn.DelChain(chain)
	conn.AddChain(chain)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("quarantine %s: %w", device, err)
	}
	return nil
}

// Release ends a device's quarantine and leaves nothing of it. A device that is in
// none, or no longer there, is a success.
func (l *Links) Release(device string) error {
	conn, err := l.nftables()
	if err != nil {
		return fmt.Errorf("release %s from quarantine: %w", device, err)
	}
	conn.DelChain(&nftables.Chain{Table: table(), Name: device})
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("release %s from quarantine: %w", device, err)
	}
	return nil
}

// Quarantined answers the devices in quarantine, by name. Where there is none, and so
// always on the kernel datapath, it answers an empty list.
func (l *Links) Quarantined() ([]string, error) {
	conn, err := l.nftables()
	if err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	var devices []string
	for _, chain := range chains {
		if chain.Table.Name == quarantineTable {
			devices = append(devices, chain.Name)
		}
	}
	slices.Sort(devices)
	return devices, nil
}

// EnsureQuarantine puts every named device that exists into quarantine and releases
// what is there of devices that do not exist any more. On the kernel datapath it does
// nothing. It answers one line of text for each difference.
func (l *Links) EnsureQuarantine(ctx context.Context, devices []string) (repairs []string, err error) {
	if !l.userspace {
		return nil, nil
	}
	has, err := l.Quarantined()
	if err != nil {
		return nil, err
	}
	h, err := handle(l.node)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	exists := map[string]bool{}
	for _, link := range links {
		exists[link.Attrs().Name] = true
	}
	var found differences
	for _, device := range devices {
		if exists[device] && !slices.Contains(has, device) {
			found.add(func() error { return l.Quarantine(device) }, "%s: is not in quarantine", device)
		}
	}
	for _, device := range has {
		if !exists[device] {
			found.add(func() error { return l.Release(device) }, "%s: is gone, but still in quarantine", device)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	repairs, err = found.repair()
	if err != nil {
		return repairs, fmt.Errorf("ensure quarantine: %w", err)
	}
	return repairs, nil
}
