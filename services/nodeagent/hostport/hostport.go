// Package hostport leads ports of the node to pods, by rules of iptables that have the
// names which operators know from kubelet.
//
// It owns, in table nat, the chains KUBE-HOSTPORTS and DAMASK-HOSTPORT-TENANTS, those
// that begin with KUBE-HP-, the jumps to them, and the few rules in built-in chains
// that fixed.go lists; and the setting route_localnet of the gateway device. It
// promises that a change of one pod is one process that writes this pod's rules,
// whatever else there is, and that a pod without host ports costs nothing; that Ensure
// compares, puts in what is missing and takes out what is too much; and that all other
// rules stay, KUBE-SERVICES among them. With either service engine it is the same
// (docs/decisions/023-host-ports-are-iptables.md).
//
// Who asks is seen by the pod with its own address, but for this node's loopback and a
// pod that asks itself. Of a tenant's pod, see Tenant.
//
// It must not decide who has a port: the lease store has. It does not keep other
// programs from listening on one: the pod gets what comes, as with kubelet.
//
// Rules go to whichever of the two iptables backends (nft, legacy) the node's iptables
// command is, in the network namespace that the calling thread is in.
package hostport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-iptables/iptables"
)

// DefaultProgram is the command of the backend that the host uses.
const DefaultProgram = "iptables"

// lockSeconds is how long an iptables command waits for the lock that all iptables
// commands of a machine share.
const lockSeconds = 5

// Protocol is a transport protocol, as iptables spells it.
type Protocol string

// The protocols that host ports can have.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// Mapping is one port of the node that leads to a pod.
type Mapping struct {
	// Namespace and Pod are whose it is.
	Namespace, Pod string
	// HostIP is the node's address that it is on. The zero address: all of them.
	HostIP netip.Addr
	// HostPort is the node's port, 1–65535.
	HostPort uint16
	// Protocol is the port's.
	Protocol Protocol
	// To is the pod's address and port, IPv4.
	To netip.AddrPort
}

// Node is what the rules depend on besides mappings.
type Node struct {
	// Gateway is the device to the pods. Empty: tun0.
	Gateway string
	// MasqueradeBit is the number, 0 to 31, of the mark bit by which a packet is to be
	// masqueraded.
	MasqueradeBit uint8
	// Pods is the network of this node's own pods.
	Pods netip.Prefix
	// ClusterNetworks are the networks of all pods. At least one, IPv4.
	ClusterNetworks []netip.Prefix
	// Nodes are the addresses of the other nodes.
	Nodes []netip.Addr
	// Tenant says that a namespace's pods are to be kept from other tenants. Their
	// host ports are for clients of whom it can be told who they are: hosts that are no
	// nodes, this node, and pods of this node, about whom the switch decides. Another
	// node's address stands for all its pods, so what comes from it finds no host
	// port. Nil: no namespace is such.
	Tenant func(namespace string) bool
}

func (n Node) gateway() string {
	if n.Gateway == "" {
		return "tun0"
	}
	return n.Gateway
}

func (n Node) tenant(namespace string) bool { return n.Tenant != nil && n.Tenant(namespace) }

// check answers one error that names every problem.
func (n Node) check() error {
	var problems []string
	if len(n.ClusterNetworks) == 0 {
		problems = append(problems, "cluster networks are missing")
	}
	for _, p := range append(slices.Clone(n.ClusterNetworks), n.Pods) {
		if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() {
			problems = append(problems, fmt.Sprintf("network %v is no IPv4 network", p))
		}
	}
	for _, a := range n.Nodes {
		if !a.Is4() {
			problems = append(problems, fmt.Sprintf("node address %v is no IPv4 address", a))
		}
	}
	if n.MasqueradeBit > 31 {
		problems = append(problems, fmt.Sprintf("masquerade bit %d is not 0 to 31", n.MasqueradeBit))
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("host ports: " + strings.Join(problems, "; "))
}

// command is what is used of go-iptables.
type command interface {
	ChainExists(table, chain string) (bool, error)
	List(table, chain string) ([]string, error)
	NewChain(table, chain string) error
	Insert(table, chain string, position int, rule ...string) error
}

// Rules writes the rules of one node. Its methods can be called from any goroutine.
type Rules struct {
	command command
	restore string // the command that takes batches

	mu      sync.Mutex // one change at a time
	node    *Node      // of the last Ensure
	wanted  map[string][]Mapping
	written map[string]fragment // what the kernel has of each owner, as far as is known
	tenants []string            // the same of the chain for all tenants
}

// New finds the iptables commands of a backend: DefaultProgram, or iptables-nft or
// iptables-legacy to choose one. It writes nothing yet.
func New(program string) (*Rules, error) {
	c, err := iptables.New(iptables.IPFamily(iptables.ProtocolIPv4), iptables.Path(program), iptables.Timeout(lockSeconds))
	if err != nil {
		return nil, fmt.Errorf("find %s (Debian: package iptables): %w", program, err)
	}
	restore, err := exec.LookPath(program + "-restore")
	if err != nil {
		return nil, fmt.Errorf("this node has no %s-restore command (Debian: package iptables): %w", program, err)
	}
	return &Rules{command: c, restore: restore, wanted: map[string][]Mapping{}, written: map[string]fragment{}}, nil
}

// Keep notes mappings that an owner has, without a look at the kernel: Ensure comes
// after. It is how an agent that starts says what there is.
func (r *Rules) Keep(owner string, mappings []Mapping) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted[owner] = mappings
}

// Namespaces lists those that have host ports here, each once.
func (r *Rules) Namespaces() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, mappings := range r.wanted {
		for _, m := range mappings {
			all = append(all, m.Namespace)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Put makes an owner have these mappings and no others, none for an empty list. It is
// one process, and none when nothing changes. Ensure must have come before; without
// it only an empty list is taken, since the comparison to come leaves the owner out.
func (r *Rules) Put(ctx context.Context, owner string, mappings []Mapping) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.node == nil {
		if len(mappings) > 0 {
			return errors.New("host ports: the node's address plan is not known yet")
		}
		delete(r.wanted, owner)
		return nil
	}
	before, had := r.wanted[owner]
	r.want(owner, mappings)
	wish := compile(*r.node, owner, mappings)
	err := r.send(ctx, exchange(r.written[owner], wish))
	if err != nil {
		// Somebody may have changed our rules: what there is must be looked at.
		_, err = r.compare(ctx)
	}
	if err != nil {
		if len(mappings) > 0 {
			r.want(owner, before)
			if !had {
				delete(r.wanted, owner)
			}
		}
		return fmt.Errorf("write rules of host ports: %w", err)
	}
	r.note(owner, wish)
	return forgetFlows(before, mappings)
}

func (r *Rules) want(owner string, mappings []Mapping) {
	if len(mappings) == 0 {
		delete(r.wanted, owner)
		return
	}
	r.wanted[owner] = mappings
}

func (r *Rules) note(owner string, f fragment) {
	if f.empty() {
		delete(r.written, owner)
		return
	}
	r.written[owner] = f
}

// Differences tells how what the kernel has of an owner differs from what Put wrote.
func (r *Rules) Differences(_ context.Context, owner string, mappings []Mapping) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.node == nil {
		return nil, errors.New("host ports: the node's address plan is not known yet")
	}
	entries, err := r.list(chainHostPorts)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, p := range compile(*r.node, owner, mappings).ports {
		has := slices.Contains(entries, p.entry)
		rules, err := r.list(p.chain)
		if err != nil {
			return nil, err
		}
		if !has || !slices.Equal(rules, p.rules) {
			all = append(all, fmt.Sprintf("host port: chain %s and the jump to it differ", p.chain))
		}
	}
	return all, nil
}
