package idle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// verdict is what becomes of a packet.
type verdict int

const (
	drop verdict = nfqueue.NfDrop
	// again sends a packet through table raw once more, as if it had just arrived.
	again verdict = nfqueue.NfRepeat
)

const (
	// spare is how many packets the kernel may keep beyond those that wait: a burst on
	// its way to this process. Beyond, the kernel drops them itself.
	spare = 1024
	// readBuffer is room for that burst, about 1 KiB a packet in the kernel's books.
	readBuffer = 2 << 20
)

// queue is the kernel's queue. The kernel drops what is in it when it is closed, or
// this process ends.
type queue struct {
	take   func(q *queue, id uint32, payload []byte)
	nf     *nfqueue.Nfqueue
	number uint16
	cancel context.CancelFunc
	done   chan struct{} // closed by close
	ready  chan struct{} // closed by start: nobody is told of packets before
	failed atomic.Bool
	once   sync.Once
}

// openQueue opens a queue in the network namespace of the calling thread. take is
// called by one goroutine, after start.
func openQueue(number uint16, take func(q *queue, id uint32, payload []byte)) (*queue, error) {
	nf, err := nfqueue.Open(&nfqueue.Config{
		NfQueue: number, MaxPacketLen: headBytes, MaxQueueLen: maxWaiting + spare, Copymode: nfqueue.NfQnlCopyPacket,
		AfFamily: unix.AF_INET, WriteTimeout: time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("open netfilter queue %d: %w", number, err)
	}
	q := &queue{take: take, nf: nf, number: number, ready: make(chan struct{}), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	q.cancel = cancel
	// Under a flood the kernel drops what does not fit; that is no error.
	_ = nf.SetOption(netlink.NoENOBUFS, true)
	_ = nf.Con.SetReadBuffer(readBuffer)
	if err := nf.RegisterWithErrorFunc(ctx, q.received, q.error); err != nil {
		cancel()
		_ = nf.Close()
		return nil, fmt.Errorf("take netfilter queue %d, which another process may have: %w", number, err)
	}
	return q, nil
}

func (q *queue) start() { close(q.ready) }

// received hands over one packet.
func (q *queue) received(a nfqueue.Attribute) int {
	select {
	case <-q.ready:
	case <-q.done:
		return 1
	}
	if a.PacketID == nil {
		return 0
	}
	var payload []byte
	if a.Payload != nil {
		payload = *a.Payload
	}
	q.take(q, *a.PacketID, payload)
	return 0
}

// error says, by 0, that reading goes on. What the kernel says about one packet is of
// no consequence: a verdict came too late, or a message did not fit.
func (q *queue) error(err error) int {
	select {
	case <-q.done:
		return 1
	default:
	}
	for _, harmless := range []unix.Errno{unix.ENOBUFS, unix.ENOENT, unix.EINTR, unix.EAGAIN} {
		if errors.Is(err, harmless) {
			return 0
		}
	}
	q.failed.Store(true)
	return 1
}

// broken says that nothing is read any more.
func (q *queue) broken() bool { return q.failed.Load() }

// verdict decides about a packet. An error is not answered: the packet is gone then,
// or the queue is broken, which the reader notices.
func (q *queue) verdict(id uint32, v verdict) { _ = q.nf.SetVerdict(id, int(v)) }

// close gives the queue back, and waits for the reader.
func (q *queue) close() {
	q.once.Do(func() {
		close(q.done)
		q.cancel()
		_ = q.nf.Close()
	})
}
