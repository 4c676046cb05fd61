package idle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// DefaultQueue is the netfilter queue unless another is configured. Others' programs
// count from 0, so a number far up is likely to be free.
const DefaultQueue = 55882

var errClosed = errors.New("packets to idled services are no longer held: the agent stops")

// Config is what a gate depends on.
type Config struct {
	// Need is told that a service has traffic: at its first packet, and again at the
	// first that comes 30 s later, and so on. It must not block. Required.
	Need func(namespace, name string)
	// NodePortNetworks limit node ports to the node's addresses in them, as
	// proxy.Node says. Empty: all but loopback addresses.
	NodePortNetworks []netip.Prefix
	// Queue is the number of the netfilter queue; only one process of a network
	// namespace can have it. 0: DefaultQueue.
	Queue uint16
	// Program is the iptables command, by which the backend is chosen. Empty:
	// "iptables".
	Program string
}

// Frontend is where a service is reached.
type Frontend struct {
	// Address is a service address: a cluster IP, an external or a load-balancer
	// address. IPv4. The zero Addr stands for a node port: the node's own addresses.
	Address netip.Addr
	// Protocol is TCP, UDP or SCTP.
	Protocol proxy.Protocol
	// Port is 1 to 65535.
	Port uint16
}

// Services are idled services, and where each is reached.
type Services map[serviceview.Name][]Frontend

// Gate is where packets wait. Its methods may be called by many goroutines at once.
type Gate struct {
	log      hclog.Logger
	need     func(namespace, name string)
	number   uint16
	networks []netip.Prefix
	chains   chains

	setting sync.Mutex          // one change at a time; before mu
	held    Services            // whose rules are in
	known   map[string][]string // the rules as they were left; nil: not read yet
	closed  bool

	mu    sync.Mutex
	room  *room
	queue *queue
	timer *time.Timer // drops what has waited too long; nil while nothing waits
}

// New touches nothing. A node without iptables is an error that says so.
func New(cfg Config, log hclog.Logger) (*Gate, error) {
	if cfg.Program == "" {
		cfg.Program = "iptables"
	}
	if cfg.Queue == 0 {
		cfg.Queue = DefaultQueue
	}
	c, err := findChains(cfg.Program)
	if err != nil {
		return nil, err
	}
	return &Gate{
		log: log.Named("idle"), need: cfg.Need, number: cfg.Queue, networks: cfg.NodePortNetworks,
		chains: c, room: newRoom(time.Now),
	}, nil
}

// Sync makes the held services exactly these, in the network namespace of the calling
// thread, as all changes. It reads the rules that are there and sends the difference:
// nothing, if nothing differs. Call it first when all services are known, after an
// error, and in audits. Services that are not among them are let go, as by Release.
//
// The error joins what is wrong with services, each of which is left out, and what
// did not work. In the latter case rules are as they were, and what waits goes on
// waiting; call it again.
func (g *Gate) Sync(ctx context.Context, services Services) error {
	g.setting.Lock()
	defer g.setting.Unlock()
	g.known = nil
	good, problems := checked(services)
	return errors.Join(problems, g.change(ctx, good))
}

// Hold makes packets to the frontends wait, instead of those that waited for this
// service before. When it answers, no packet gets past any more. Call it before the
// engine programs that the service has no endpoint, or clients see it rejected in
// between. It writes from memory of the last Sync, at the cost of one process. After
// an error the service is held as it was before; call it again.
func (g *Gate) Hold(ctx context.Context, service serviceview.Name, frontends []Frontend) error {
	g.setting.Lock()
	defer g.setting.Unlock()
	next := maps.Clone(g.held)
	if next == nil {
		next = Services{}
	}
	next[service] = frontends
	if _, err := checked(next); err != nil {
		return err
	}
	return g.change(ctx, next)
}

// Release takes out a service's rules and lets go what waits for it. Before, the
// engine must have programmed its endpoints, or its end. It does nothing for a
// service that is not held. It writes as Hold does. After an error the service is
// held as before; call it again.
func (g *Gate) Release(ctx context.Context, service serviceview.Name) error {
	g.setting.Lock()
	defer g.setting.Unlock()
	if _, held := g.held[service]; !held {
		return nil
	}
	next := maps.Clone(g.held)
	delete(next, service)
	return g.change(ctx, next)
}

// change makes rules and books those of next. Called under setting.
func (g *Gate) change(ctx context.Context, next Services) error {
	if g.closed {
		return errClosed
	}
	// Room before rules: packets come as soon as there is a rule.
	g.mu.Lock()
	g.room.admit(next)
	g.mu.Unlock()
	var noQueue error
	if len(next) > 0 {
		// Without a queue the rules are right nevertheless: the kernel drops, and what is
		// no longer idled gets out.
		noQueue = g.open()
	}
	if err := g.write(ctx, compile(next, g.networks, g.number)); err != nil {
		return errors.Join(noQueue, err)
	}
	g.held = next
	g.mu.Lock()
	defer g.mu.Unlock()
	released := g.room.keep(next)
	for _, id := range released {
		g.queue.verdict(id, again)
	}
	if len(released) > 0 {
		g.log.Info("packets that waited for endpoints go on", "packets", len(released))
	}
	return noQueue
}

// write makes the rules the wanted ones. What is in memory may be wrong, since others
// can change rules: then the kernel refuses, and is asked.
func (g *Gate) write(ctx context.Context, want ruleset) error {
	if g.known != nil {
		if g.chains.send(ctx, difference(g.known, want)) == nil {
			g.known = want.table()
			return nil
		}
		g.known = nil
	}
	has, err := g.chains.read(ctx)
	if err != nil {
		return fmt.Errorf("read rules of idled services: %w", err)
	}
	if err := g.chains.send(ctx, difference(has, want)); err != nil {
		return fmt.Errorf("write rules of idled services: %w", err)
	}
	g.known = want.table()
	return nil
}

// Close drops what waits, and leaves the rules: clients repeat, and whoever comes
// next takes over.
func (g *Gate) Close() {
	g.setting.Lock()
	defer g.setting.Unlock()
	g.mu.Lock()
	g.closed = true
	q := g.queue
	g.queue = nil
	g.room.forget()
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
	g.mu.Unlock()
	if q != nil {
		q.close()
	}
}

// Stats are counts of packets since the start of the process.
type Stats struct {
	// Services is how many are idled now, Waiting how many packets wait now.
	Services, Waiting int
	// Held, Released and Dropped: packets that had to wait, that went on, and that
	// were dropped, because there was no room or it took too long.
	Held, Released, Dropped uint64
}

// Stats answers the counts.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.room.stats()
}

// open sees that there is a queue. One that broke is replaced.
func (g *Gate) open() error {
	g.mu.Lock()
	old := g.queue
	g.mu.Unlock()
	if old != nil && !old.broken() {
		return nil
	}
	if old != nil {
		old.close()
	}
	q, err := openQueue(g.number, g.take)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.room.forget() // the kernel dropped what waited in the old one
	g.queue = q
	q.start()
	return nil
}

// take is told of every packet that the kernel hands over.
func (g *Gate) take(q *queue, id uint32, payload []byte) {
	p, err := parse(payload)
	if err != nil {
		q.verdict(id, drop)
		return
	}
	g.mu.Lock()
	if g.queue != q { // closed meanwhile
		g.mu.Unlock()
		return
	}
	decided := g.room.take(id, p)
	for _, d := range decided.verdicts {
		q.verdict(d.id, d.verdict)
	}
	g.arm()
	g.mu.Unlock()
	if decided.first {
		g.log.Info("idled service has traffic", "namespace", decided.service.Namespace, "service", decided.service.Service)
	}
	if decided.need {
		g.need(decided.service.Namespace, decided.service.Service)
	}
}

// arm starts the timer for the packet that waits longest. Called under mu.
func (g *Gate) arm() {
	if g.timer != nil {
		return
	}
	left, waiting := g.room.patience()
	if !waiting {
		return
	}
	g.timer = time.AfterFunc(left, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.timer == nil { // closed meanwhile
			return
		}
		g.timer = nil
		for _, id := range g.room.expire() {
			g.queue.verdict(id, drop)
		}
		g.arm()
	})
}
