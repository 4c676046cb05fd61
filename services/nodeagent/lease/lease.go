// Package lease owns what this node has promised to its pods: for each
// attachment one address, one OpenFlow port number, one veth name, one MAC, and
// the ports of the node that lead to it.
//
// It promises that nothing is given twice, also not after kill -9 at any
// instant: every change is in the log before it is answered. A number that was
// given back is given out again after all others, and that order survives a
// restart. The cost of a change does not depend on the number of leases.
//
// It must not touch the network: what a lease says is made true, and undone,
// by others, who release the lease last.
package lease

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"google.golang.org/protobuf/proto"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

const (
	// FirstPort is the lowest OpenFlow port of a pod: 1 is the tunnel, 2 is tun0.
	FirstPort = 3
	// LastPort is the highest one: Open vSwitch keeps 65280 (0xff00) and up for
	// itself.
	LastPort = 65279
)

var (
	// ErrFull says that the subnet has no free address.
	ErrFull = errors.New("no free address")
	// ErrPortsFull says that no OpenFlow port number is free.
	ErrPortsFull = errors.New("no free OpenFlow port")
	// ErrAddressTaken says that the wished address belongs to somebody.
	ErrAddressTaken = errors.New("address is taken")
	// ErrPortTaken says that the wished OpenFlow port belongs to somebody.
	ErrPortTaken = errors.New("OpenFlow port is taken")
	// ErrHostPortTaken says that a wished port of the node belongs to somebody.
	ErrHostPortTaken = errors.New("host port is taken")
	// ErrBadWish says that the wish can never be given on this node.
	ErrBadWish = errors.New("wish cannot be given")
	// ErrExists says that the attachment has a lease already.
	ErrExists = errors.New("attachment has a lease")
	// ErrUnknown says that the attachment has no lease.
	ErrUnknown = errors.New("attachment has no lease")
)

// Key names an attachment: a pod can have several interfaces.
type Key struct {
	// ContainerID is the runtime's id of the sandbox.
	ContainerID string
	// Ifname is the interface inside the pod.
	Ifname string
}

// KeyOf is the key of an attachment.
func KeyOf(a *cniv1.Attachment) Key {
	return Key{ContainerID: a.GetContainerId(), Ifname: a.GetIfname()}
}

// String is for messages.
func (k Key) String() string { return k.ContainerID + "/" + k.Ifname }

// Wish is what the owner would like to have. Zero values mean: any.
type Wish struct {
	// Address inside the subnet.
	Address netip.Addr
	// OFPort from FirstPort to LastPort.
	OFPort uint32
}

// Lease is one attachment and how far it got. The attachment is shared and must
// not be changed by who reads it.
type Lease struct {
	// Attachment holds all that was promised.
	Attachment *cniv1.Attachment
	// Attached is true from the moment when ADD was done until DEL began. A
	// lease that is not attached after a restart is a half-made one.
	Attached bool
}

// Store holds the leases of one node, in memory and in a directory.
type Store struct {
	mu        sync.Mutex
	log       *log
	leases    map[Key]Lease
	veths     map[string]Key
	addresses *rotation
	ports     *rotation
	hostPorts hostPorts
	subnet    netip.Prefix
}

// Open reads the leases in dir, which it creates with mode 0700, and takes the
// directory for itself until Close: a second Open of the same directory fails.
func Open(dir string) (*Store, error) {
	s := &Store{
		leases:    map[Key]Lease{},
		veths:     map[string]Key{},
		addresses: newRotation(),
		ports:     newRotation(),
		hostPorts: hostPorts{},
	}
	s.ports.narrow(FirstPort, LastPort)
	l, err := openLog(dir, s.replay)
	if err != nil {
		return nil, fmt.Errorf("open leases in %s: %w", dir, err)
	}
	s.log = l
	if err := s.tidy(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return s, nil
}

// Close writes everything to the disk and gives the directory free.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.close()
}

// Torn is the number of bytes at the end of the log that Open could not read
// and cut off. It is not 0 only after a crash.
func (s *Store) Torn() int64 { return s.log.torn }

// Allocate gives owner an address of subnet and an OpenFlow port, and answers
// the whole attachment, which is stored as not attached yet. Of owner it takes
// container_id, ifname, netns, pod_namespace, pod_name, labels, ports, host_ports and
// annotations. Errors: ErrExists, ErrFull, ErrPortsFull, ErrAddressTaken,
// ErrPortTaken, ErrHostPortTaken, ErrBadWish.
//
// The subnet of a node can change between calls. Old leases stay as they are.
func (s *Store) Allocate(subnet netip.Prefix, owner *cniv1.Attachment, wish Wish) (*cniv1.Attachment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := KeyOf(owner)
	if key.ContainerID == "" || key.Ifname == "" {
		return nil, fmt.Errorf("allocate for %s: container id and interface name are required", key)
	}
	if _, ok := s.leases[key]; ok {
		return nil, fmt.Errorf("allocate for %s: %w", key, ErrExists)
	}
	if err := s.use(subnet); err != nil {
		return nil, err
	}
	if err := s.hostPortsFit(owner); err != nil {
		return nil, err
	}
	address, err := s.pickAddress(wish.Address)
	if err != nil {
		return nil, err
	}
	port, err := s.pickPort(wish.OFPort)
	if err != nil {
		return nil, err
	}
	a := &cniv1.Attachment{
		ContainerId: key.ContainerID, Ifname: key.Ifname, Netns: owner.GetNetns(),
		PodNamespace: owner.GetPodNamespace(), PodName: owner.GetPodName(), PodUid: owner.GetPodUid(),
		Labels: owner.GetLabels(), Ports: owner.GetPorts(), HostPorts: owner.GetHostPorts(), Annotations: owner.GetAnnotations(),
		Ips:       []string{netip.PrefixFrom(address, subnet.Bits()).String()},
		Mac:       HardwareAddr(address).String(),
		HostVeth:  s.newVeth(),
		Ofport:    port,
		Bandwidth: owner.GetBandwidth(),
	}
	if err := s.put(Lease{Attachment: proto.CloneOf(a)}); err != nil {
		return nil, err
	}
	return a, nil
}

// Adopt stores an attachment that is there already and has no lease, with its
// address, port and veth. Errors: ErrExists, ErrAddressTaken, ErrPortTaken,
// ErrHostPortTaken. If no subnet is known yet, the attachment's is: its address is to be
// given out again after all others, too.
func (s *Store) Adopt(a *cniv1.Attachment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := KeyOf(a)
	if _, ok := s.leases[key]; ok {
		return fmt.Errorf("adopt %s: %w", key, ErrExists)
	}
	l := Lease{Attachment: proto.CloneOf(a), Attached: true}
	if err := s.fits(l); err != nil {
		return fmt.Errorf("adopt %s: %w", key, err)
	}
	if subnet := netip.MustParsePrefix(a.GetIps()[0]).Masked(); !s.subnet.IsValid() && usable(subnet) { // fits has read it
		if err := s.use(subnet); err != nil {
			return err
		}
	}
	return s.put(l)
}

// Attached says that the attachment is complete. Unknown ones are an error
// (ErrUnknown).
func (s *Store) Attached(key Key) error { return s.mark(key, recordAttached, true) }

// Detaching says that the attachment is being undone: after a crash it is
// collected. Unknown ones are an error (ErrUnknown).
func (s *Store) Detaching(key Key) error { return s.mark(key, recordDetaching, false) }

// Change is what can change of an attachment that exists. Zero values keep what
// is.
type Change struct {
	// Netns is a new path of the pod's network namespace.
	Netns string
	// Labels replace the labels; an empty map that is not nil removes them.
	Labels map[string]string
	// Ports replace the ports; an empty list that is not nil removes them.
	Ports []*cniv1.ContainerPort
	// HostPorts replace the host ports; an empty list that is not nil removes them.
	HostPorts []*cniv1.HostPort
	// OFPort is the port number that the switch gave.
	OFPort uint32
	// Bandwidth replaces the bandwidth; one that is empty and not nil removes it.
	Bandwidth *cniv1.Bandwidth
	// NewVeth asks for another name of the host's veth. A veth that is made anew
	// must not have its old name, or the switch could take it for the old one.
	NewVeth bool
}

// Amend changes an attachment and answers it as it is now. Its address stays.
// Errors: ErrUnknown, ErrPortTaken, ErrHostPortTaken, ErrBadWish.
func (s *Store) Amend(key Key, c Change) (*cniv1.Attachment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.leases[key]
	if !ok {
		return nil, fmt.Errorf("change lease of %s: %w", key, ErrUnknown)
	}
	a := proto.CloneOf(old.Attachment)
	if c.Netns != "" {
		a.Netns = c.Netns
	}
	if c.Labels != nil {
		a.Labels = c.Labels
	}
	if c.Ports != nil {
		a.Ports = c.Ports
	}
	if c.HostPorts != nil {
		a.HostPorts = c.HostPorts
	}
	if c.OFPort != 0 {
		a.Ofport = c.OFPort
	}
	if c.Bandwidth != nil {
		if a.Bandwidth = c.Bandwidth; proto.Equal(c.Bandwidth, &cniv1.Bandwidth{}) {
			a.Bandwidth = nil
		}
	}
	if c.NewVeth {
		a.HostVeth = s.newVeth()
	}
	if proto.Equal(a, old.Attachment) {
		return a, nil
	}
	l := Lease{Attachment: proto.CloneOf(a), Attached: old.Attached}
	if err := s.fits(l); err != nil {
		return nil, fmt.Errorf("change lease of %s: %w", key, err)
	}
	return a, s.put(l)
}

// Release forgets an attachment: its address and its port can be given out
// again, after all others. What is unknown is a success.
func (s *Store) Release(key Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.leases[key]; !ok {
		return nil
	}
	if err := s.log.append(encodeKey(recordReleased, key)); err != nil {
		return fmt.Errorf("release %s: %w", key, err)
	}
	s.forget(key)
	return s.tidy()
}

// Lookup answers the lease of an attachment.
func (s *Store) Lookup(key Key) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.leases[key]
	return l, ok
}

// List answers all leases, in no order.
func (s *Store) List() []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Lease, 0, len(s.leases))
	for _, l := range s.leases {
		all = append(all, l)
	}
	return all
}

// Free is the number of addresses of the subnet of the last Allocate that could
// still be given out, and their number in all; 0, 0 when there was none yet.
func (s *Store) Free() (free, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addresses.free()
}

// HardwareAddr is the MAC address of a pod's interface: 0a:58 and the four
// bytes of its IPv4 address, so that ARP can be checked against the address.
func HardwareAddr(address netip.Addr) net.HardwareAddr {
	b := address.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

// newVeth makes a name that no lease has. It is random, not derived from the
// pod, so that the remains of an earlier attachment never stand in the way.
func (s *Store) newVeth() string {
	for {
		var b [4]byte
		rand.Read(b[:]) // never fails
		name := "veth" + hex.EncodeToString(b[:])
		if _, taken := s.veths[name]; !taken {
			return name
		}
	}
}
