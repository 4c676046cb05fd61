package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// quarantineTable is the name of the nftables table, of the netdev family, that has
// one chain for each device in quarantine, named like the device.
const quarantineTable = "damask_quarantine"

func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: quarantineTable}
}

// rules is the connection to the node's nftables. It stays open: when a socket that
// removed something is closed, the kernel waits until nobody can be using that any
// more, some ten milliseconds, with every other change of rules waiting behind it.
type rules struct {
	mu   sync.Mutex
	conn *nftables.Conn // nil until it is needed, and after an error
}

// do runs fn with the connection to itself. After an error the connection is not used
// again: answers that nobody has read may be left in it.
func (r *rules) do(node *os.File, fn func(*nftables.Conn) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		conn, err := nftables.New(nftables.WithNetNSFd(int(node.Fd())), nftables.AsLasting())
		if err != nil {
			return fmt.Errorf("open nftables socket: %w", err)
		}
		r.conn = conn
	}
	if err := fn(r.conn); err != nil {
		return errors.Join(err, r.drop())
	}
	return nil
}

// close ends the connection; it can be opened again.
func (r *rules) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drop()
}

func (r *rules) drop() error {
	if r.conn == nil {
		return nil
	}
	conn := r.conn
	r.conn = nil
	return conn.CloseLasting()
}

// Quarantine makes the node's kernel drop everything that arrives on a device. A
// switch in userspace reads its ports by packet sockets, which see a frame before
// this does. Calling it again, also for a device that was made anew under the same
// name, puts the chain right. Other devices are not affected.
func (l *Links) Quarantine(device string) error {
	err := l.rules.do(l.node, func(conn *nftables.Conn) error {
		drop := nftables.ChainPolicyDrop
		chain := &nftables.Chain{
			Table: conn.AddTable(table()), Name: device, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter,
			Policy: &drop, Device: device,
		}
		// Added, deleted and added in one transaction: whatever was there under that
		// name, bound to a device that is gone perhaps, is replaced.
		conn.AddChain(chain)
		conn.DelChain(chain)
		conn.AddChain(chain)
		return conn.Flush()
	})
	if err != nil {
		return fmt.Errorf("quarantine %s: %w", device, err)
	}
	return nil
}

// Release ends a device's quarantine and leaves nothing of it. A device that is in
// none, or no longer there, is a success.
func (l *Links) Release(device string) error {
	err := l.rules.do(l.node, func(conn *nftables.Conn) error {
		conn.DelChain(&nftables.Chain{Table: table(), Name: device})
		// Kernels before 6.16 have removed the chain together with the device. The
		// refusal is the one answer to the one message: nothing is left unread.
		if err := conn.Flush(); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("release %s from quarantine: %w", device, err)
	}
	return nil
}

// Quarantined answers the devices in quarantine, by name. Where there is none, and so
// always on the kernel datapath, it answers an empty list.
func (l *Links) Quarantined() ([]string, error) {
	var chains []*nftables.Chain
	err := l.rules.do(l.node, func(conn *nftables.Conn) (err error) {
		chains, err = conn.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
		return err
	})
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
	links, err := listed(h.LinkList)
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
