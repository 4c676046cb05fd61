// Package healthport answers, on the health-check node port of a service with
// external traffic policy Local, whether this node has endpoints of it. Load
// balancers ask there which nodes to send to.
//
// It owns the listeners. It answers as kube-proxy does: status 200 while the node
// has ready endpoints and 503 otherwise, a JSON body, and the number of endpoints
// in the header X-Load-Balancing-Endpoint-Weight. It promises that a port that
// stays is never closed in between, whatever else changes, and that a port which
// somebody else occupies concerns its own service only. It must not decide who is
// ready (internal/serviceview does), nor open ports that it was not told of.
package healthport

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// httpTimeout bounds each part of a question, so that a client that says nothing
// does not hold a connection for ever.
const httpTimeout = 10 * time.Second

// Health is what a port answers.
type Health struct {
	// Namespace and Name are the service's.
	Namespace, Name string
	// Local is how many ready endpoints of the service this node has.
	Local int
}

// PortError says that a service's port cannot be opened.
type PortError struct {
	// Port is the port; Namespace and Name are the service's.
	Port            uint16
	Namespace, Name string
	// Err is why.
	Err error
}

// Error names the service and the port.
func (e *PortError) Error() string {
	return fmt.Sprintf("health-check node port %d of service %s/%s: %v", e.Port, e.Namespace, e.Name, e.Err)
}

// Unwrap answers why.
func (e *PortError) Unwrap() error { return e.Err }

// Ports is the open ports. Its methods may be called by many goroutines at once.
type Ports struct {
	log       hclog.Logger
	unhealthy atomic.Bool

	mu      sync.Mutex
	open    map[uint16]*port
	closed  bool
	serving sync.WaitGroup
}

// port is one listener.
type port struct {
	answer   atomic.Pointer[Health]
	listener net.Listener
	server   *http.Server
}

// close frees the port before it returns, also when the server has not begun yet.
func (o *port) close() {
	_ = o.server.Close()
	_ = o.listener.Close()
}

// New has no port open.
func New(log hclog.Logger) *Ports {
	return &Ports{log: log.Named("healthport"), open: map[uint16]*port{}}
}

// Set makes the open ports exactly the wanted ones, in the network namespace of the
// calling thread, on all addresses of the node. Ports that stay are not touched but
// for their answer. It opens what it can: the error joins a *PortError for each port
// that could not be opened, in the order of ports. Set again, unchanged or not, to
// try these again. After Close it answers net.ErrClosed.
func (p *Ports) Set(want map[uint16]Health) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return net.ErrClosed
	}
	for number, o := range p.open {
		if _, stays := want[number]; !stays {
			o.close()
			delete(p.open, number)
			p.log.Debug("health-check node port closed", "port", number)
		}
	}
	var problems []error
	for _, number := range slices.Sorted(maps.Keys(want)) {
		health := want[number]
		if o := p.open[number]; o != nil {
			o.answer.Store(&health)
			continue
		}
		if err := p.listen(number, health); err != nil {
			problems = append(problems, &PortError{Port: number, Namespace: health.Namespace, Name: health.Name, Err: err})
		}
	}
	return errors.Join(problems...)
}

// SetProxyHealthy says whether the node's service engine does its work; true at
// first. While it does not, every port answers 503, so that load balancers prefer
// other nodes.
func (p *Ports) SetProxyHealthy(healthy bool) { p.unhealthy.Store(!healthy) }

// Close closes all ports, and cuts questions in progress.
func (p *Ports) Close() {
	p.mu.Lock()
	p.closed = true
	for _, o := range p.open {
		o.close()
	}
	clear(p.open)
	p.mu.Unlock()
	p.serving.Wait()
}

// listen opens a port.
func (p *Ports) listen(number uint16, health Health) error {
	if number == 0 {
		return errors.New("0 is no port")
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(number))))
	if err != nil {
		// What net says around the cause is the address, which the caller knows.
		if system := (*net.OpError)(nil); errors.As(err, &system) {
			err = system.Err
		}
		return err
	}
	o := &port{listener: listener}
	o.answer.Store(&health)
	o.server = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { p.reply(w, *o.answer.Load()) }),
		ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout, IdleTimeout: time.Minute,
		ErrorLog: p.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	p.open[number] = o
	p.serving.Go(func() { p.serve(number, o) })
	p.log.Debug("health-check node port opened", "port", number, "namespace", health.Namespace, "service", health.Name)
	return nil
}

// serve answers until the port is closed. A listener that fails by itself leaves
// the books, so that the next Set opens it again.
func (p *Ports) serve(number uint16, o *port) {
	err := o.server.Serve(o.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return
	}
	p.log.Warn("health-check node port failed, trying again", "port", number, "error", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[number] == o {
		delete(p.open, number)
	}
}

// reply writes kube-proxy's answer.
func (p *Ports) reply(w http.ResponseWriter, health Health) {
	healthy := !p.unhealthy.Load()
	body, err := encode(health, healthy)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(health.Local))
	if health.Local > 0 && healthy {
		w.WriteHeader(http.StatusOK)
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(body) // a client that went away needs no answer
}
