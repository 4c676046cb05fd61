package egressrouter

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableName is the one table that this package has in a pod.
const tableName = "damask_router"

// buffer holds the rules of maxDestinations in one transaction, and an answer to each, with
// room to spare.
const buffer = 4 << 20

// rule is one rule, and what it is for.
type rule struct {
	about string
	exprs []expr.Any
}

// fingerprint is a rule's comment. The kernel never changes a rule, so comments compare
// as the rules would.
func (r rule) fingerprint() (string, error) {
	sum := sha256.New()
	for _, e := range r.exprs {
		data, err := expr.Marshal(byte(nftables.TableFamilyIPv4), e)
		if err != nil {
			return "", fmt.Errorf("marshal rule %q: %w", r.about, err)
		}
		sum.Write(data)
	}
	const digest = 4
	return fmt.Sprintf("%s [%x]", r.about, sum.Sum(nil)[:digest]), nil
}

// chain is one of the two base chains.
type chain struct {
	name     string
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    []rule
}

// chains are what a router's table has. in is the pod's interface to the cluster.
func chains(s Spec, in string) []chain {
	lead := chain{name: "prerouting", hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityNATDest}
	for _, r := range s.Redirects {
		lead.rules = append(lead.rules, rule{
			about: fmt.Sprintf("%s %d to %s:%d", r.Protocol, r.Port, r.To, r.ToPort),
			exprs: append(append(from(expr.MetaKeyIIFNAME, in), toPort(r)...), translate(expr.NATTypeDestNAT, r.To, r.ToPort)...),
		})
	}
	if s.Fallback.IsValid() {
		lead.rules = append(lead.rules, rule{
			about: fmt.Sprintf("the rest to %s", s.Fallback),
			exprs: append(from(expr.MetaKeyIIFNAME, in), translate(expr.NATTypeDestNAT, s.Fallback, 0)...),
		})
	}
	leave := chain{name: "postrouting", hook: nftables.ChainHookPostrouting, priority: nftables.ChainPriorityNATSource}
	leave.rules = []rule{{
		about: fmt.Sprintf("leave as %s", s.Source.Addr()),
		exprs: append(from(expr.MetaKeyOIFNAME, Interface), translate(expr.NATTypeSourceNAT, s.Source.Addr(), 0)...),
	}}
	return []chain{lead, leave}
}

// from takes packets of an interface.
func from(key expr.MetaKey, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: padded},
	}
}

// toPort takes packets to a port.
func toPort(r Redirect) []expr.Any {
	protocol := map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}[r.Protocol]
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{protocol}},
		// The destination port is at byte 2 in all three.
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: binaryutil.BigEndian.PutUint16(r.Port)},
	}
}

// translate rewrites an address, and a port if it is not 0.
func translate(kind expr.NATType, to netip.Addr, port uint16) []expr.Any {
	nat := &expr.NAT{Type: kind, Family: unix.NFPROTO_IPV4, RegAddrMin: unix.NFT_REG_1}
	exprs := []expr.Any{&expr.Immediate{Register: unix.NFT_REG_1, Data: to.AsSlice()}}
	if port != 0 {
		exprs = append(exprs, &expr.Immediate{Register: unix.NFT_REG_2, Data: binaryutil.BigEndian.PutUint16(port)})
		nat.RegProtoMin = unix.NFT_REG_2
	}
	return append(exprs, nat)
}

// Ensure gives a pod the rules of its spec, and answers what differed, in words. netns
// is the pod's network namespace, in the pod's interface to the cluster.
func Ensure(ctx context.Context, netns, in string, s Spec) ([]string, error) {
	var repaired []string
	err := inside(ctx, netns, func(conn *nftables.Conn) error {
		differs, err := compare(conn, chains(s, in))
		if err != nil || len(differs) == 0 {
			return err
		}
		repaired = differs
		return replace(conn, chains(s, in))
	})
	if err != nil {
		return nil, fmt.Errorf("rules of egress router: %w", err)
	}
	return repaired, nil
}

// Check answers how a pod's rules differ from its spec, in words.
func Check(ctx context.Context, netns, in string, s Spec) (differs []string, err error) {
	err = inside(ctx, netns, func(conn *nftables.Conn) error {
		differs, err = compare(conn, chains(s, in))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("rules of egress router: %w", err)
	}
	return differs, nil
}

// Remove takes the rules out of a pod. A namespace that is gone is a success.
func Remove(ctx context.Context, netns string) error {
	err := inside(ctx, netns, func(conn *nftables.Conn) error {
		there, err := exists(conn)
		if err != nil || !there {
			return err
		}
		conn.DelTable(table())
		return conn.Flush()
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("rules of egress router: %w", err)
	}
	return nil
}

// inside works on the nftables of a namespace.
func inside(ctx context.Context, netns string, do func(*nftables.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	file, err := os.Open(netns)
	if err != nil {
		return err
	}
	defer file.Close()
	// A namespace's name is a mount on a file, which can outlive it.
	if kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return fmt.Errorf("%s is no network namespace: %w", netns, os.ErrNotExist)
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(file.Fd())), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(buffer), c.SetReadBuffer(buffer))
	}))
	if err != nil {
		return fmt.Errorf("open nftables socket in %s: %w", netns, err)
	}
	return do(conn)
}

func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName}
}

func exists(conn *nftables.Conn) (bool, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, fmt.Errorf("list tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}

// compare answers what differs.
func compare(conn *nftables.Conn, want []chain) ([]string, error) {
	there, err := exists(conn)
	if err != nil {
		return nil, err
	}
	if !there {
		return []string{"nftables: table " + tableName + " is missing"}, nil
	}
	all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	var differs []string
	for _, c := range want {
		i := slices.IndexFunc(all, func(has *nftables.Chain) bool { return has.Table.Name == tableName && has.Name == c.name })
		if i < 0 || all[i].Hooknum == nil || *all[i].Hooknum != *c.hook || all[i].Type != nftables.ChainTypeNAT {
			differs = append(differs, fmt.Sprintf("nftables: chain %s of %s is missing", c.name, tableName))
			continue
		}
		more, err := c.compare(conn, all[i])
		if err != nil {
			return nil, err
		}
		differs = append(differs, more...)
	}
	return differs, nil
}

func (c chain) compare(conn *nftables.Conn, there *nftables.Chain) ([]string, error) {
	rules, err := conn.GetRules(table(), there)
	if err != nil {
		return nil, fmt.Errorf("list rules of %s: %w", c.name, err)
	}
	var has, want []string
	for _, r := range rules {
		comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		has = append(has, comment)
	}
	for _, r := range c.rules {
		print, err := r.fingerprint()
		if err != nil {
			return nil, err
		}
		want = append(want, print)
	}
	if slices.Equal(has, want) {
		return nil, nil
	}
	return []string{fmt.Sprintf("nftables: chain %s has %q, should have %q", c.name, has, want)}, nil
}

// replace makes the table anew in one transaction: there is no moment in which a packet
// meets half of it.
func replace(conn *nftables.Conn, want []chain) error {
	conn.AddTable(table()) // So that there is one to delete.
	conn.DelTable(table())
	t := conn.AddTable(table())
	for _, c := range want {
		added := conn.AddChain(&nftables.Chain{
			Name: c.name, Table: t, Type: nftables.ChainTypeNAT, Hooknum: c.hook, Priority: c.priority,
		})
		for _, r := range c.rules {
			print, err := r.fingerprint()
			if err != nil {
				return err
			}
			conn.AddRule(&nftables.Rule{
				Table: t, Chain: added, Exprs: r.exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, print),
			})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write table %s: %w", tableName, err)
	}
	return nil
}
