// An order pipeline with Dapr's Go SDK: topics, competing workers, a dead letter. See README.md.
//
// `orders work PORT` has the two steps of an order, payment and shipping; as many of them as there are share the work.
// `orders place FIRST LAST` is the order service. Each event is named after its order: published again, it is the same one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	dapr "github.com/dapr/go-sdk/client"
	"github.com/dapr/go-sdk/service/common"
	daprd "github.com/dapr/go-sdk/service/http"
)

type Order struct {
	ID      string `json:"id"`
	Amount  int    `json:"amount"`
	Address string `json:"address"`
	Paid    bool   `json:"paid,omitempty"`
}

type shop struct{ client dapr.Client }

func (s shop) publish(ctx context.Context, topic string, order Order) error {
	name := map[string]string{"cloudevent.id": topic + "-" + order.ID, "partitionKey": order.ID}
	return s.client.PublishEvent(ctx, "pubsub", topic, order, dapr.PublishEventWithMetadata(name))
}

// A step answers whether an event that has failed is to come again: always.
func (s shop) pay(ctx context.Context, event *common.TopicEvent) (bool, error) {
	var order Order
	if err := json.Unmarshal(event.RawData, &order); err != nil {
		return true, err
	}
	order.Paid = true
	return true, s.publish(ctx, "payments", order)
}

// An order without an address fails each time, and becomes a dead letter.
func (s shop) ship(ctx context.Context, event *common.TopicEvent) (bool, error) {
	var order Order
	if err := json.Unmarshal(event.RawData, &order); err != nil {
		return true, err
	}
	if order.Address == "" {
		log.Printf("%s has no address", order.ID)
		return true, fmt.Errorf("%s has no address", order.ID)
	}
	return true, s.publish(ctx, "shipped", order)
}

func (s shop) work(port string) error {
	service := daprd.NewService("127.0.0.1:" + port)
	orders := &common.Subscription{PubsubName: "pubsub", Topic: "orders", Route: "/pay"}
	if err := service.AddTopicEventHandler(orders, s.pay); err != nil {
		return err
	}
	payments := &common.Subscription{
		PubsubName: "pubsub", Topic: "payments", Route: "/ship",
		Metadata: map[string]string{"maxDeliver": "3"}, DeadLetterTopic: "rejected",
	}
	if err := service.AddTopicEventHandler(payments, s.ship); err != nil {
		return err
	}
	return service.Start()
}

// Every tenth order has no address. An order that may not have been taken is placed again, under its name.
func (s shop) place(first, last int) error {
	for n := first; n <= last; n++ {
		order := Order{ID: fmt.Sprintf("o%d", n), Amount: n}
		if n%10 != 0 {
			order.Address = fmt.Sprintf("%d Ghost Lane", n)
		}
		for err := s.publish(context.Background(), "orders", order); err != nil; {
			log.Printf("%s once more: %v", order.ID, err)
			time.Sleep(100 * time.Millisecond)
			err = s.publish(context.Background(), "orders", order)
		}
	}
	fmt.Printf("orders %d to %d are placed\n", first, last)
	return nil
}

func main() {
	client, err := dapr.NewClient()
	if err != nil {
		log.Fatal(err)
	}
	s := shop{client}
	if os.Args[1] == "place" {
		first, _ := strconv.Atoi(os.Args[2])
		last, _ := strconv.Atoi(os.Args[3])
		err = s.place(first, last)
	} else {
		err = s.work(os.Args[2])
	}
	if err != nil {
		log.Fatal(err)
	}
}
