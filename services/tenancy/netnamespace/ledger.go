package netnamespace

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/isolation"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// kind is the kind of the keys that hold namespaces.
const kind = "netnamespace"

func namespaceKey(name string) string { return bucket.Key(kind, name) }

// ledger is one attempt of a transaction over namespaces and VNIDs. Its
// methods keep the invariant: a namespace with VNID n above 0 is in the list
// under n's key, and that list has nobody else. VNID 0 has no key: everybody
// may have it, so nothing is decided by who does.
type ledger struct {
	tx      *bucket.Tx
	numbers *Numbers
}

// find answers a namespace, nil when there is none.
func (l ledger) find(name string) (*tenancyv1.NetNamespace, error) {
	entry, found := l.tx.Get(namespaceKey(name))
	if !found {
		return nil, nil
	}
	return decode(entry)
}

// require answers a namespace that must be there.
func (l ledger) require(name string) (*tenancyv1.NetNamespace, error) {
	ns, err := l.find(name)
	if err == nil && ns == nil {
		return nil, &NotFoundError{Name: name}
	}
	return ns, err
}

// requireVNIDs refuses while VNIDs do not isolate.
func (l ledger) requireVNIDs() error {
	mode, err := isolation.Read(l.tx)
	if err != nil {
		return err
	}
	switch mode.GetMode() {
	case tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT, tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED:
		return nil
	}
	return &ModeError{Mode: mode.GetMode()}
}

// holders answers who has a VNID above 0.
func (l ledger) holders(number uint32) (sharers, error) {
	entry, found := l.tx.Get(vnidKey(number))
	if !found {
		return nil, nil
	}
	list, err := parseSharers(entry.Value)
	if err != nil {
		return nil, fmt.Errorf("VNID %d: %w", number, err)
	}
	return list, nil
}

// errBehind says that an attempt's snapshot is older than what Numbers knows.
// It lasts for microseconds.
var errBehind = errors.New("the transaction's snapshot is behind")

// unused answers a VNID that nobody has: the first free one from a random
// place upward. It says "exhausted" only when at one instant none was free,
// never by adding up two instants.
func (l ledger) unused() (uint32, error) {
	number, ok, err := l.numbers.propose(l.tx)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, &ExhaustedError{Total: l.numbers.Range().Size()}
	}
	if _, taken := l.tx.Get(vnidKey(number)); taken {
		return 0, errBehind // freed since the snapshot
	}
	return number, nil
}

// enter puts a namespace into the list of a VNID.
func (l ledger) enter(name string, number uint32) error {
	if number == vnid.Global {
		return nil
	}
	list, err := l.holders(number)
	if err != nil {
		return err
	}
	if list = list.with(name); len(list) > maxSharers {
		return &CrowdedError{VNID: number, Limit: maxSharers}
	}
	l.tx.Put(vnidKey(number), list.encode())
	return nil
}

// leave takes a namespace out of the list of a VNID, and frees the VNID when
// it was the last.
func (l ledger) leave(name string, number uint32) error {
	if number == vnid.Global {
		return nil
	}
	list, err := l.holders(number)
	if err != nil {
		return err
	}
	if !list.has(name) {
		return fmt.Errorf("namespace %q is not in the list of its VNID %d", name, number)
	}
	if list = list.without(name); len(list) > 0 {
		l.tx.Put(vnidKey(number), list.encode())
		return nil
	}
	l.tx.Delete(vnidKey(number))
	return nil
}

// move gives a stored namespace another VNID.
func (l ledger) move(ns *tenancyv1.NetNamespace, number uint32) (*tenancyv1.NetNamespace, error) {
	if ns.GetNetid() == number {
		l.guard(number)
		return ns, nil
	}
	if err := errors.Join(l.leave(ns.GetName(), ns.GetNetid()), l.enter(ns.GetName(), number)); err != nil {
		return nil, err
	}
	ns.Netid = number
	return ns, l.write(ns)
}

// guard makes the commit fail if somebody enters or leaves the VNID meanwhile.
// An answer "nothing had to change" is a claim about the store too, and this
// process's view of it may be behind another replica's.
func (l ledger) guard(number uint32) {
	if number != vnid.Global {
		l.tx.Touch(vnidKey(number))
	}
}

// write stores a namespace. Its revision becomes known with the commit.
func (l ledger) write(ns *tenancyv1.NetNamespace) error {
	ns.Revision = 0
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(ns)
	if err != nil {
		return fmt.Errorf("encode namespace %q: %w", ns.GetName(), err)
	}
	l.tx.Put(namespaceKey(ns.GetName()), value)
	return nil
}

func decode(entry bucket.Entry) (*tenancyv1.NetNamespace, error) {
	ns := &tenancyv1.NetNamespace{}
	if err := proto.Unmarshal(entry.Value, ns); err != nil {
		return nil, fmt.Errorf("read %s: %w", entry.Key, err)
	}
	ns.Revision = entry.Revision
	return ns, nil
}
