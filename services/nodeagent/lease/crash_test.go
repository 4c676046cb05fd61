package lease_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// model is what the store promises, written as plainly as can be: lists, and
// searches through all of them.
type model struct {
	subnet    netip.Prefix
	leases    map[lease.Key]lease.Lease
	addresses line
	ports     line
}

// line is a range of numbers and the order in which they were freed.
type line struct {
	first, last int
	used, freed []int
}

func (l line) next() (int, bool) {
	for n := l.first; n <= l.last; n++ {
		if !slices.Contains(l.used, n) && !slices.Contains(l.freed, n) {
			return n, true
		}
	}
	if len(l.freed) > 0 {
		return l.freed[0], true
	}
	return 0, false
}

func (l *line) take(n int) {
	l.used = append(l.used, n)
	l.freed = slices.DeleteFunc(l.freed, func(f int) bool { return f == n })
}

func (l *line) give(n int) {
	l.used = slices.DeleteFunc(l.used, func(u int) bool { return u == n })
	if n >= l.first && n <= l.last {
		l.freed = append(l.freed, n)
	}
}

func (l *line) turn(first, last int) {
	l.first, l.last = first, last
	l.freed = slices.DeleteFunc(l.freed, func(f int) bool { return f < first || f > last })
}

func (m *model) clone() *model {
	c := &model{subnet: m.subnet, leases: map[lease.Key]lease.Lease{}, addresses: m.addresses, ports: m.ports}
	for k, l := range m.leases {
		c.leases[k] = l
	}
	for _, l := range []*line{&c.addresses, &c.ports} {
		l.used, l.freed = slices.Clone(l.used), slices.Clone(l.freed)
	}
	return c
}

func numberOf(a netip.Addr) int {
	b := a.As4()
	return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
}

func addressOf(a *cniv1.Attachment) int {
	return numberOf(netip.MustParsePrefix(a.GetIps()[0]).Addr())
}

// turn is the model's change of subnet.
func (m *model) turn(subnet netip.Prefix) {
	if m.subnet == subnet {
		return
	}
	m.subnet = subnet
	base := numberOf(subnet.Addr())
	m.addresses.turn(base+2, base+1<<(32-subnet.Bits())-2)
}

// machine drives the store and the model, and remembers the model at each
// length of the log, so that a crash can cut the file at any byte.
type machine struct {
	t     *rapid.T
	dir   string
	store *lease.Store
	model *model
	at    map[int64]*model
}

func (m *machine) open() {
	var err error
	if m.store, err = lease.Open(m.dir); err != nil {
		m.t.Fatalf("open: %v", err)
	}
	m.at = map[int64]*model{}
	m.note()
}

func (m *machine) file() string { return filepath.Join(m.dir, "leases.log") }

// note remembers what the log says at its present length.
func (m *machine) note() {
	info, err := os.Stat(m.file())
	if err != nil {
		m.t.Fatal(err)
	}
	m.at[info.Size()] = m.model.clone()
}

func (m *machine) allocate() {
	subnets := []netip.Prefix{netip.MustParsePrefix("10.130.0.0/28"), netip.MustParsePrefix("10.129.0.0/29")}
	subnet := m.model.subnet
	if !subnet.IsValid() || rapid.IntRange(0, 19).Draw(m.t, "new subnet") == 0 {
		subnet = rapid.SampledFrom(subnets).Draw(m.t, "subnet")
	}
	own := owner(rapid.IntRange(0, 30).Draw(m.t, "owner"))
	var wish lease.Wish
	if rapid.IntRange(0, 3).Draw(m.t, "wishes") == 0 {
		wish.OFPort = uint32(rapid.IntRange(1, 40).Draw(m.t, "port"))
		a := subnet.Addr().As4()
		a[3] = byte(rapid.IntRange(0, 20).Draw(m.t, "last byte"))
		wish.Address = netip.AddrFrom4(a)
	}
	got, err := m.store.Allocate(subnet, own, wish)
	m.expectAllocation(subnet, own, wish, got, err)
	m.note()
}

func (m *machine) expectAllocation(subnet netip.Prefix, own *cniv1.Attachment, wish lease.Wish, got *cniv1.Attachment, err error) {
	key := lease.KeyOf(own)
	if _, exists := m.model.leases[key]; exists {
		if err == nil {
			m.t.Fatalf("%s got a second lease: %v", key, got)
		}
		return
	}
	if m.model.subnet != subnet {
		m.model.turn(subnet)
		if err != nil {
			m.note() // the change of the subnet is a record of its own
		} else {
			m.noteTurn()
		}
	}
	address, port, ok := m.model.choose(wish)
	if !ok {
		if err == nil {
			m.t.Fatalf("%s wished %v and got %v: want a refusal", key, wish, got)
		}
		return
	}
	if err != nil {
		m.t.Fatalf("%s wished %v: %v", key, wish, err)
	}
	if addressOf(got) != address || int(got.GetOfport()) != port {
		m.t.Fatalf("%s got %v, want address %d and port %d", key, got, address, port)
	}
	m.model.addresses.take(address)
	m.model.ports.take(port)
	m.model.leases[key] = lease.Lease{Attachment: got}
}

// noteTurn remembers the length between the two records of one Allocate.
func (m *machine) noteTurn() {
	var longest int64
	for size := range m.at {
		longest = max(longest, size)
	}
	m.at[longest+8+6] = m.model.clone() // frame, kind, address, prefix length
}

func (m *model) choose(wish lease.Wish) (address, port int, ok bool) {
	address, ok = m.addresses.next()
	if wish.Address.IsValid() {
		address = numberOf(wish.Address)
		ok = address >= m.addresses.first && address <= m.addresses.last && !slices.Contains(m.addresses.used, address)
	}
	if !ok {
		return 0, 0, false
	}
	port, ok = m.ports.next()
	if wish.OFPort != 0 {
		port = int(wish.OFPort)
		ok = port >= m.ports.first && port <= m.ports.last && !slices.Contains(m.ports.used, port)
	}
	return address, port, ok
}

func (m *machine) release() {
	key := lease.KeyOf(owner(rapid.IntRange(0, 30).Draw(m.t, "owner")))
	if err := m.store.Release(key); err != nil {
		m.t.Fatalf("release %s: %v", key, err)
	}
	if l, ok := m.model.leases[key]; ok {
		delete(m.model.leases, key)
		m.model.addresses.give(addressOf(l.Attachment))
		m.model.ports.give(int(l.Attachment.GetOfport()))
	}
	m.note()
}

func (m *machine) mark() {
	key := lease.KeyOf(owner(rapid.IntRange(0, 30).Draw(m.t, "owner")))
	attached := rapid.Bool().Draw(m.t, "attached")
	change := m.store.Detaching
	if attached {
		change = m.store.Attached
	}
	err := change(key)
	l, ok := m.model.leases[key]
	if ok != (err == nil) {
		m.t.Fatalf("mark %s: %v, want success %t", key, err, ok)
	}
	if ok {
		m.model.leases[key] = lease.Lease{Attachment: l.Attachment, Attached: attached}
	}
	m.note()
}

// crash kills the store, and cuts the log at any byte that was not there when
// the store was opened. Reading it must give the state of the last whole record.
func (m *machine) crash() {
	if err := m.store.Close(); err != nil {
		m.t.Fatal(err)
	}
	sizes := make([]int64, 0, len(m.at))
	for size := range m.at {
		sizes = append(sizes, size)
	}
	slices.Sort(sizes)
	cut := rapid.Int64Range(sizes[0], sizes[len(sizes)-1]).Draw(m.t, "cut")
	if err := os.Truncate(m.file(), cut); err != nil {
		m.t.Fatal(err)
	}
	if rapid.Bool().Draw(m.t, "zeros") { // what some file systems leave after a power failure
		if err := os.Truncate(m.file(), cut+rapid.Int64Range(1, 64).Draw(m.t, "length")); err != nil {
			m.t.Fatal(err)
		}
	}
	i, found := slices.BinarySearch(sizes, cut)
	if !found {
		i--
	}
	m.model = m.at[sizes[i]].clone()
	m.open()
	m.check()
}

// check compares everything that can be seen.
func (m *machine) check() {
	all := m.store.List()
	if len(all) != len(m.model.leases) {
		m.t.Fatalf("%d leases, want %d", len(all), len(m.model.leases))
	}
	seen := map[string]lease.Key{}
	for _, l := range all {
		key := lease.KeyOf(l.Attachment)
		want, ok := m.model.leases[key]
		if !ok || want.Attached != l.Attached || !proto.Equal(want.Attachment, l.Attachment) {
			m.t.Fatalf("lease of %s is %v %t, want %v %t", key, l.Attachment, l.Attached, want.Attachment, want.Attached)
		}
		for _, mine := range []string{l.Attachment.Ips[0], l.Attachment.HostVeth, fmt.Sprint(l.Attachment.Ofport)} {
			if other, twice := seen[mine]; twice {
				m.t.Fatalf("%s belongs to %s and to %s", mine, other, key)
			}
			seen[mine] = key
		}
	}
}

func TestStoreEqualsAModelThroughCrashes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "leases")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &machine{t: rt, dir: dir, model: &model{
			leases:    map[lease.Key]lease.Lease{},
			addresses: line{first: 1, last: 0},
			ports:     line{first: lease.FirstPort, last: lease.LastPort},
		}}
		m.open()
		defer func() { _ = m.store.Close() }()
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0:
				m.crash()
			case 1, 2, 3:
				m.release()
			case 4:
				m.mark()
			default:
				m.allocate()
			}
		}
		m.check()
		m.crash()
	})
}

// TestEveryCutOfTheLogKeepsEarlierLeases tries each byte of one log.
func TestEveryCutOfTheLogKeepsEarlierLeases(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	path := filepath.Join(dir, "leases.log")
	var ends []int64
	for n := range 5 {
		allocate(t, s, n, lease.Wish{})
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, info.Size())
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range whole {
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, "leases.log"), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := lease.Open(other)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		want := 0
		for _, end := range ends {
			if int64(cut) >= end {
				want++
			}
		}
		if n := len(got.List()); n != want {
			t.Errorf("cut at %d: %d leases, want %d", cut, n, want)
		}
		if err := got.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogStaysSmall writes far more history than the log may keep, and checks
// that the order of reuse is not lost by the rewrites.
func TestLogStaysSmall(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	path := filepath.Join(dir, "leases.log")
	for n := range 20 {
		allocate(t, s, n, lease.Wish{})
	}
	last := ""
	for n := range 3000 {
		a := allocate(t, s, 1000+n, lease.Wish{})
		if a.Ips[0] == last {
			t.Fatalf("pod %d got %s, which was freed just before", n, last)
		}
		last = a.Ips[0]
		if err := s.Release(lease.KeyOf(a)); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 256<<10 {
			t.Fatalf("after %d pods the log has %d bytes", n, info.Size())
		}
	}
	next := allocate(t, s, 5000, lease.Wish{}).Ips[0]
	if err := s.Release(lease.KeyOf(owner(5000))); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, dir)
	if len(s.List()) != 20 {
		t.Errorf("%d leases after the restart, want 20", len(s.List()))
	}
	if got := allocate(t, s, 5001, lease.Wish{}).Ips[0]; got == next {
		t.Errorf("after the restart %s was reused at once", got)
	}
}
