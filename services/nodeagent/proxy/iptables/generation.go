package iptables

import (
	"context"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Reading 10,000 services back takes iptables-nft-save 10 s of CPU: it sorts chains by
// looking through all of them. The kernel counts the commits to all of nftables, in the
// network namespace. While the count is ours, nobody has changed anything, and there is
// no need to read.

// generation asks the kernel for the count. The legacy backend has none.
func (p programs) generation() uint32 {
	if !p.nft {
		return 0
	}
	id, err := generationID()
	if err != nil {
		return 0 // not knowing means to read
	}
	return id
}

func generationID() (id uint32, err error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   make([]byte, nfgenmsg),
	})
	if err != nil {
		return 0, err
	}
	if len(answers) != 1 || len(answers[0].Data) < nfgenmsg {
		return 0, errors.New("the kernel answers no generation")
	}
	attributes, err := netlink.NewAttributeDecoder(answers[0].Data[nfgenmsg:])
	if err != nil {
		return 0, err
	}
	attributes.ByteOrder = binary.BigEndian
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_GEN_ID {
			id = attributes.Uint32()
		}
	}
	return id, attributes.Err()
}

// nfgenmsg is the size of the header of that name (linux/netfilter/nfnetlink.h).
const nfgenmsg = 4

// untouched says that the kernel has what the book says: nobody but us wrote since that
// was seen.
func (e *Engine) untouched() bool {
	return e.synced && e.seen != 0 && e.kernel.generation() == e.seen
}

// send sends batches in their order, up to the first that fails, and sees whether their
// commits are the only ones since the generation that was seen.
func (e *Engine) send(ctx context.Context, batches ...*batch) error {
	before := e.seen
	e.seen = 0
	for _, b := range batches {
		if err := e.kernel.send(ctx, b); err != nil {
			return err
		}
		before += b.commits()
	}
	if e.synced && before != 0 && e.kernel.generation() == before {
		e.seen = before
	}
	return nil
}

// syncUntouched brings a kernel to a state that has what the book says.
func (e *Engine) syncUntouched(ctx context.Context, state proxy.State) (proxy.Changes, error) {
	steps := slices.DeleteFunc(e.book.Steps(state), func(s proxy.Step) bool {
		return s.Old != nil && s.New != nil && reflect.DeepEqual(s.Old, s.New)
	})
	slices.SortFunc(steps, func(a, b proxy.Step) int { return a.Key.Compare(b.Key) })
	b := newBatch()
	for _, step := range steps {
		e.replace(b, step)
	}
	if err := e.send(ctx, b); err != nil {
		e.synced = false
		return proxy.Changes{}, err
	}
	e.book.Commit(steps)
	return proxy.Changes{Added: b.added, Removed: b.removed}, forgetStale(stepFlows(steps))
}
