package servicelb

import (
	"fmt"
	"sync"
	"testing"
	"time"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// TestThousandsOfServices prints what many services cost, and checks that the
// last is made about as fast as the first.
func TestThousandsOfServices(t *testing.T) {
	const count, clients = 2000, 32
	sys := start(t, large())
	op := sys.operator()
	numbers := make(chan int)
	var working sync.WaitGroup
	for range clients {
		working.Go(func() {
			for i := range numbers {
				if _, err := op.CreateService(soon(t), &servicelbv1.CreateServiceRequest{Service: web(fmt.Sprintf("w%d", i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	began, half := time.Now(), time.Time{}
	for i := range count {
		if i == count/2 {
			half = time.Now()
		}
		numbers <- i
	}
	close(numbers)
	working.Wait()
	first, second := half.Sub(began), time.Since(half)
	t.Logf("%d services in %v (%d clients): the first half %v, the second %v", count, (first + second).Round(time.Millisecond), clients, first.Round(time.Millisecond), second.Round(time.Millisecond))
	if second > 4*first+time.Second {
		t.Errorf("the second half took %v, the first %v: the cost grows with what is there", second, first)
	}
	began = time.Now()
	page, err := sys.node("n1").ListServices(soon(t), &servicelbv1.ListServicesRequest{PageSize: 5000})
	if err != nil || len(page.GetServices()) != count {
		t.Fatalf("list: %d, %v", len(page.GetServices()), err)
	}
	t.Logf("listed in %v", time.Since(began).Round(time.Millisecond))
	if got := audit(t, sys.read()); len(got) != count {
		t.Errorf("%d services are stored", len(got))
	}
}
