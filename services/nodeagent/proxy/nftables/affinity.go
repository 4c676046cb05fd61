package nftables

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// commit sends a transaction, and then forgets what it made wrong elsewhere.
func (k *kernel) commit(t transaction) error {
	if err := k.send(t); err != nil {
		return err
	}
	return errors.Join(forgetStale(t), k.forgetClients(t.forgotten))
}

// forgotten answers the identities that are among elements that went, and not among
// those that are wanted.
func forgotten(taken, wanted items) map[string]bool {
	gone := map[string]bool{}
	for i := range taken {
		if i.set == setSticky {
			gone[i.value] = true
		}
	}
	if len(gone) > 0 {
		for i := range wanted {
			if i.set == setSticky {
				delete(gone, i.value)
			}
		}
	}
	return gone
}

// forgetClients deletes the affinities to services that are gone. Nothing would use
// them; but a client's address is not kept for longer than it is needed.
func (k *kernel) forgetClients(identities map[string]bool) error {
	if len(identities) == 0 {
		return nil
	}
	set := shapeOf(setAffinity).set(k.table)
	there, err := k.conn.GetSetElements(set)
	if err != nil {
		return fmt.Errorf("list affinities: %w", err)
	}
	const identityLength = 8
	var gone []nftables.SetElement
	for _, e := range there {
		if identities[string(e.Key[:min(identityLength, len(e.Key))])] {
			gone = append(gone, nftables.SetElement{Key: e.Key})
		}
	}
	for part := range slices.Chunk(gone, messageElements) {
		err := k.deleteAffinities(set, part)
		// The time of one has ended meanwhile: that must not keep the others.
		for i := 0; errors.Is(err, unix.ENOENT) && i < len(part); i++ {
			if one := k.deleteAffinities(set, part[i:i+1]); one != nil && !errors.Is(one, unix.ENOENT) {
				err = one
			}
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("delete affinities: %w", err)
		}
	}
	return nil
}

func (k *kernel) deleteAffinities(set *nftables.Set, some []nftables.SetElement) error {
	if err := k.conn.SetDeleteElements(set, some); err != nil {
		return err
	}
	return k.conn.Flush()
}
