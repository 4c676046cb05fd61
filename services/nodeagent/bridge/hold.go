package bridge

import (
	"context"
	"fmt"

	"github.com/ovn-org/libovsdb/ovsdb"
)

// restoreWait is the key of Open_vSwitch other_config by which a starting ovs-vswitchd
// waits: it leaves in the kernel's datapath what is cached there, and handles no
// packet, until the key is gone. Then it never looks at it again.
const restoreWait = "flow-restore-wait"

// LetForward lets ovs-vswitchd forward packets, when the database told it to wait for
// flows after its start. It returns when ovs-vswitchd has acted on it, and answers
// whether there was anything to clear.
func (b *Bridge) LetForward(ctx context.Context) (cleared bool, err error) {
	err = b.retried(ctx, func(s *session) error {
		if err := s.refresh(ctx); err != nil {
			return err
		}
		root, err := s.root()
		if err != nil {
			return err
		}
		if _, there := root.OtherConfig[restoreWait]; !there {
			return nil
		}
		number, err := s.configure(ctx, removeKey(tableRoot, root.UUID, "other_config", restoreWait))
		if err != nil {
			return err
		}
		cleared = true
		return b.settled(ctx, s, number, func() bool { return true })
	})
	if err != nil {
		return cleared, fmt.Errorf("clear "+restoreWait+": %w", err)
	}
	return cleared, nil
}

// HoldNextStart has the next ovs-vswitchd wait for LetForward when it starts, so that
// connections go on by what the datapath has cached. The one that runs takes no notice.
// Where the switch has other bridges, which would wait with ours, it sees to it that
// nothing waits. It answers whether the next start is held.
func (b *Bridge) HoldNextStart(ctx context.Context) (held bool, err error) {
	err = b.retried(ctx, func(s *session) error {
		if err := s.refresh(ctx); err != nil {
			return err
		}
		root, err := s.root()
		if err != nil {
			return err
		}
		held = len(root.Bridges) == 1
		_, there := root.OtherConfig[restoreWait]
		switch {
		case there == held:
			return nil
		case held:
			_, err = s.transact(ctx, setKey(tableRoot, root.UUID, "other_config", restoreWait, "true")...)
		default:
			_, err = s.transact(ctx, removeKey(tableRoot, root.UUID, "other_config", restoreWait)...)
		}
		return err
	})
	if err != nil {
		return held, fmt.Errorf("set "+restoreWait+": %w", err)
	}
	return held, nil
}

// setKey gives one key of a map column a value.
func setKey(table, id, column, key, value string) []ovsdb.Operation {
	return []ovsdb.Operation{
		mutate(table, id, column, ovsdb.MutateOperationDelete, ovsdb.OvsSet{GoSet: []any{key}}),
		mutate(table, id, column, ovsdb.MutateOperationInsert, stringMap(map[string]string{key: value})),
	}
}
